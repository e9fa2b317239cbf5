#!/usr/bin/env bash
# torch 2.11.0, numpy 2.3.5
# Expected: loading a float64 checkpoint into tensors of another type is refused as another shape is.
# Seen: a shape of its own is refused; any type is taken silently: into bfloat16 1e300 becomes infinity, into int32 a
#   third becomes 0.
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
import torch.distributed.checkpoint as dcp

saved = torch.tensor([1 / 3, 1e300], dtype=torch.float64)
dcp.save({"weight": saved}, checkpoint_id="folder", no_dist=True)

def load(target):
    dcp.load({"weight": target}, checkpoint_id="folder", no_dist=True)
    return target

half, whole = load(torch.zeros(2, dtype=torch.bfloat16)), load(torch.zeros(2, dtype=torch.int32))
print("bfloat16:", half.tolist(), " int32, first value:", whole[0].item())
try:
    load(torch.zeros(3, dtype=torch.float64))
    refused = False
except BaseException as error:
    refused = "Size mismatch" in str(error)
print("another shape refused:", refused)
if not half[1].isinf() or whole[0].item() != 0 or not refused:
    sys.exit("changed")
PY
env/bin/python check.py
