#!/usr/bin/env bash
# torch 2.11.0, numpy 2.3.5, setuptools 81.0.0
# Expected: torch.compile of an elementwise expression gives the bits of the eager one.
# Seen: the compiled kernel stays in float32 between the two operations: (x + 256) - 256 is 0 in eager bfloat16 and x
#   when compiled. A test of rounding in eager mode says nothing about the compiled model. (Needs a C++ compiler.)
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/env"
"$work/env/bin/pip" install --quiet --disable-pip-version-check uv==0.13.9
"$work/env/bin/uv" pip install --quiet --python "$work/env/bin/python" torch==2.11.0 numpy==2.3.5 setuptools==81.0.0
cd "$work"
cat > check.py <<'PY'
import sys
import torch

def there_and_back(x):
    return (x + 256) - 256

x = torch.tensor([0.3, 0.7], dtype=torch.bfloat16)
eager, compiled = there_and_back(x), torch.compile(there_and_back)(x)
print("eager", eager.tolist(), "compiled", compiled.tolist())
if eager.any() or not torch.equal(compiled, x):
    sys.exit("changed")
PY
env/bin/python check.py
