#!/usr/bin/env bash
# Submit a run to a Ray cluster and follow it. RAY_API_SERVER_ADDRESS: the dashboard, http://127.0.0.1:8265 by default.
#   launchers/ray_job.sh --config configs/debug_cpu.yaml --workers 1:2 output=/shared/run data.shards=/shared/shards ...
# `ray job stop ID` saves a checkpoint first: the driver gets as long as the variable below says.
set -euo pipefail
cd "$(dirname "$0")/.."
export RAY_API_SERVER_ADDRESS="${RAY_API_SERVER_ADDRESS:-http://127.0.0.1:8265}"
exec "${RAY:-ray}" job submit --working-dir . \
  --runtime-env-json '{"env_vars": {"RAY_JOB_STOP_WAIT_TIME_S": "600"}}' \
  -- "${PYTHON:-python}" launchers/ray_train.py "$@"
