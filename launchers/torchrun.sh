#!/usr/bin/env bash
# One machine, or one node of several, under torchrun.
#   launchers/torchrun.sh --config configs/debug_cpu.yaml --ranks-per-node 2 key=value ...
# Several nodes, elastic: run the same line on each of them.
#   launchers/torchrun.sh --config CONFIG --nodes 1:4 --ranks-per-node 8 --rendezvous node0:29400 key=value ...
set -euo pipefail
exec "${PYTHON:-python}" -m fra_dist.cli.main launch torchrun "$@"
