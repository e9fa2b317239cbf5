#!/usr/bin/env bash
# triton 3.6.0, torch 2.11.0, numpy 2.3.5
# Expected: float32 cast to bfloat16 rounds to nearest even, in the interpreter as in the compiled kernel.
# Seen: the compiled kernel has cvt.rn.bf16.f32; the interpreter cuts the lower 16 bits off (1.01171875 becomes
#   1.0078125 and not 1.015625), so every store leans towards zero by half a unit.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/env"
"$work/env/bin/pip" install --quiet --disable-pip-version-check uv==0.13.9
"$work/env/bin/uv" pip install --quiet --python "$work/env/bin/python" triton==3.6.0 torch==2.11.0 numpy==2.3.5
cd "$work"
cat > check.py <<'PY'
import os
import sys
import torch
import triton
import triton.language as tl
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

def cast(x, out, N: tl.constexpr):
    i = tl.arange(0, N)
    tl.store(out + i, tl.load(x + i).to(tl.bfloat16))

if os.environ.get("TRITON_INTERPRET") != "1":
    source = ASTSource(triton.jit(cast), {"x": "*fp32", "out": "*bf16", "N": "constexpr"}, {"N": 128})
    ptx = triton.compile(source, target=GPUTarget("cuda", 80, 32)).asm["ptx"]
    print("compiled: cvt.rn.bf16.f32 in the PTX:", "cvt.rn.bf16.f32" in ptx)
    if "cvt.rn.bf16.f32" not in ptx:
        sys.exit("changed: the compiled kernel rounds otherwise")
    sys.exit(0)
x = torch.tensor([1.01171875, -1.01171875])
out = torch.empty(2, dtype=torch.bfloat16)
triton.jit(cast)[(1,)](x, out, 2)
print("interpreter", out.tolist(), "torch", x.bfloat16().tolist())
if out.tolist() != [1.0078125, -1.0078125] or x.bfloat16().tolist() != [1.015625, -1.015625]:
    sys.exit("changed: the interpreter no longer cuts")
PY
env/bin/python check.py
TRITON_INTERPRET=1 env/bin/python check.py
