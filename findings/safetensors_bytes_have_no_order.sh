#!/usr/bin/env bash
# safetensors 0.8.0, numpy 2.3.5
# Expected: load() of the same bytes gives the same dictionary each time, in the order of the file, as load_file()
#   does.
# Seen: load() gives another order of the names from call to call within one process; load_file() is steady. Whoever
#   walks the tensors by position (zip with parameters, a digest over items) gets another answer each time.
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
from safetensors.numpy import load, load_file, save, save_file

tensors = {name: np.ones(2, np.float32) for name in "abcdefgh"}
save_file(tensors, "weights.safetensors")
from_file = {tuple(load_file("weights.safetensors")) for _ in range(20)}
from_bytes = {tuple(load(save(tensors))) for _ in range(20)}
print("orders from the file: ", len(from_file), " from its bytes:", len(from_bytes))
if len(from_file) != 1 or len(from_bytes) < 2:
    sys.exit("changed: load() now has an order of its own")
PY
env/bin/python check.py
