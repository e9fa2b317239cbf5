#!/usr/bin/env bash
# numba 0.68.1, numpy 2.3.5
# Expected: uint64 plus the literal 1 stays unsigned, as in NumPy 2 and in C.
# Seen: the sum is int64: (x + 1) >> 63 of a large x is -1 and not 1, and % and / see a negative number. Hashes and
#   counter-based random numbers need their constants as np.uint64.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/env"
"$work/env/bin/pip" install --quiet --disable-pip-version-check uv==0.13.9
"$work/env/bin/uv" pip install --quiet --python "$work/env/bin/python" numba==0.68.1 numpy==2.3.5
cd "$work"
cat > check.py <<'PY'
import sys
import numba
import numpy as np

def top_bit(x):
    return (x + 1) >> 63

def top_bit_typed(x):
    return (x + np.uint64(1)) >> np.uint64(63)

x = np.uint64(2**63 + 5)
seen = [int(top_bit(x)), int(numba.njit(top_bit)(x)), int(numba.njit(top_bit_typed)(x))]
print("NumPy", seen[0], " numba", seen[1], " numba with typed constants", seen[2])
if seen != [1, -1, 1]:
    sys.exit("changed")
PY
env/bin/python check.py
