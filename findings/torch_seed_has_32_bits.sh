#!/usr/bin/env bash
# torch 2.11.0, numpy 2.3.5
# Expected: a torch generator takes 64-bit seeds (initial_seed() returns all 64 bits), so seeds that differ give
#   different streams.
# Seen: on the CPU only the lower 32 bits count: seed s and s + 2^32 give the same numbers, though initial_seed()
#   tells them apart. Seeds made by hashing to 64 bits collide after some 80,000 of them.
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

one, other = torch.Generator().manual_seed(5), torch.Generator().manual_seed(5 + 2**32)
a, b = torch.rand(1000, generator=one), torch.rand(1000, generator=other)
print("initial seeds", one.initial_seed(), other.initial_seed(), "same numbers:", torch.equal(a, b))
if not torch.equal(a, b) or one.initial_seed() == other.initial_seed():
    sys.exit("changed")
PY
env/bin/python check.py
