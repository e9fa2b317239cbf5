#!/usr/bin/env bash
# torch 2.11.0, numpy 2.3.5
# Expected: activation checkpointing changes memory and time, nothing that is computed.
# Seen: the running statistics of BatchNorm are updated in the forward and again in the recomputation: two updates a
#   step, with both kinds of checkpointing, so that evaluation differs from a run without.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/env"
"$work/env/bin/pip" install --quiet --disable-pip-version-check uv==0.13.9
"$work/env/bin/uv" pip install --quiet --python "$work/env/bin/python" torch==2.11.0 numpy==2.3.5
cd "$work"
cat > check.py <<'PY'
import sys
import torch
from torch.utils.checkpoint import checkpoint

def batches(run):
    layer = torch.nn.BatchNorm1d(2)
    run(layer, torch.randn(4, 2, requires_grad=True)).sum().backward()
    return layer.num_batches_tracked.item()

plain = batches(lambda layer, x: layer(x))
recomputed = [batches(lambda layer, x: checkpoint(layer, x, use_reentrant=kind)) for kind in (True, False)]
print("batches counted in one step: plain", plain, "with checkpointing", recomputed)
if (plain, recomputed) != (1, [2, 2]):
    sys.exit("changed")
PY
env/bin/python check.py
