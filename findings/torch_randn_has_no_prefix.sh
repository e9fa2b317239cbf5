#!/usr/bin/env bash
# torch 2.11.0, numpy 2.3.5
# Expected: randn(n) is the beginning of randn(n + 1) from the same seed, as with rand and with NumPy's generator.
# Seen: holds to 15 numbers; from 16 on another method is used, and unless the length divides by 16 the last 16 are
#   drawn again: randn(15), randn(16) and randn(17) share hardly a number. Growing a layer or a batch by one changes
#   the rest.
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

def draw(function, n):
    return function(n, generator=torch.Generator().manual_seed(0))

def shared(function, n):
    return int((draw(function, n) == draw(function, n + 1)[:n]).sum())

seen = {(f.__name__, n): shared(f, n) for f in (torch.rand, torch.randn) for n in (14, 15, 16)}
for (name, n), count in seen.items():
    print(f"{name}({n}) and {name}({n + 1}) share {count} of the first {n}")
if any(seen["rand", n] != n for n in (14, 15, 16)) or seen["randn", 14] != 14 or max(seen["randn", 15], seen["randn", 16]) > 3:
    sys.exit("changed")
PY
env/bin/python check.py
