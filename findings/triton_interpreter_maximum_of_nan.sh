#!/usr/bin/env bash
# triton 3.6.0, torch 2.11.0, numpy 2.3.5
# Expected: tl.maximum(1, NaN) is the same in the interpreter and compiled.
# Seen: the compiled kernel has max.f32 without .NaN, which returns the number; the interpreter returns NaN. A test of
#   how NaN passes through a kernel that runs in the interpreter says the opposite of what the GPU does.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/env"
"$work/env/bin/pip" install --quiet --disable-pip-version-check uv==0.13.9
"$work/env/bin/uv" pip install --quiet --python "$work/env/bin/python" triton==3.6.0 torch==2.11.0 numpy==2.3.5
cd "$work"
cat > check.py <<'PY'
import os
import re
import sys
import torch
import triton
import triton.language as tl
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

def larger(x, y, out, N: tl.constexpr):
    i = tl.arange(0, N)
    tl.store(out + i, tl.maximum(tl.load(x + i), tl.load(y + i)))

if os.environ.get("TRITON_INTERPRET") != "1":
    kinds = {"x": "*fp32", "y": "*fp32", "out": "*fp32", "N": "constexpr"}
    ptx = triton.compile(ASTSource(triton.jit(larger), kinds, {"N": 128}), target=GPUTarget("cuda", 80, 32)).asm["ptx"]
    found = set(re.findall(r"max\.\S+", ptx))
    print("compiled:", found)
    sys.exit(0 if found == {"max.f32"} else "changed: the compiled kernel has another maximum")
x, y, out = torch.tensor([1.0, float("nan")]), torch.tensor([float("nan"), 1.0]), torch.empty(2)
triton.jit(larger)[(1,)](x, y, out, 2)
print("interpreter:", out.tolist())
if not out.isnan().all():
    sys.exit("changed: the interpreter no longer returns NaN")
PY
env/bin/python check.py
TRITON_INTERPRET=1 env/bin/python check.py
