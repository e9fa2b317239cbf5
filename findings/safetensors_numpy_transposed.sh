#!/usr/bin/env bash
# safetensors 0.8.0, numpy 2.3.5
# Expected: a transposed array comes back as it was saved, or is refused as safetensors.torch refuses tensors that are
#   not contiguous.
# Seen: no error; the shape is kept and the numbers lie in the order of the array's memory, so the matrix that comes
#   back is another one.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/env"
"$work/env/bin/pip" install --quiet --disable-pip-version-check uv==0.13.9
"$work/env/bin/uv" pip install --quiet --python "$work/env/bin/python" safetensors==0.8.0 numpy==2.3.5
cd "$work"
cat > check.py <<'PY'
import sys
import numpy as np
from safetensors.numpy import load_file, save_file

landmarks = np.arange(6.0).reshape(2, 3)
save_file({"landmarks": landmarks.T}, "points.safetensors")
back = load_file("points.safetensors")["landmarks"]
print("saved ", landmarks.T.tolist())
print("loaded", back.tolist())
if back.tolist() != [[0.0, 1.0], [2.0, 3.0], [4.0, 5.0]]:
    sys.exit("changed: the transposed array is no longer loaded in memory order")
PY
env/bin/python check.py
