#!/usr/bin/env bash
# triton 3.6.0, torch 2.11.0, numpy 2.3.5
# Expected: under TRITON_INTERPRET=1 the sum of two bfloat16 tensors is torch's sum; float16 is exact.
# Seen: bfloat16 values are held as 16-bit integers and + adds their bits: 1 + 1 gives 1.7e+38, no error, no warning.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/env"
"$work/env/bin/pip" install --quiet --disable-pip-version-check uv==0.13.9
"$work/env/bin/uv" pip install --quiet --python "$work/env/bin/python" triton==3.6.0 torch==2.11.0 numpy==2.3.5
cd "$work"
cat > check.py <<'PY'
import sys
import torch
import triton
import triton.language as tl

@triton.jit
def add(x, y, out, N: tl.constexpr):
    i = tl.arange(0, N)
    tl.store(out + i, tl.load(x + i) + tl.load(y + i))

seen = {}
for kind in (torch.float16, torch.bfloat16):
    x = torch.tensor([1.0, 0.5, 2.0, 1.5]).to(kind)
    out = torch.empty_like(x)
    add[(1,)](x, x, out, 4)
    bits = (x.view(torch.int16) + x.view(torch.int16)).view(kind)
    seen[kind] = (torch.equal(out, x + x), torch.equal(out, bits))
    print(kind, "x + x =", out.tolist(), "torch:", (x + x).tolist())
if seen != {torch.float16: (True, False), torch.bfloat16: (False, True)}:
    sys.exit(f"changed: (equal to torch, equal to the sum of bits) {seen}")
PY
TRITON_INTERPRET=1 env/bin/python check.py
