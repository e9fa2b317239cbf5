#!/usr/bin/env bash
# numpy 2.3.5
# Expected: default_rng([seed, 0]) is another stream than default_rng(seed), and [a, b] another than [c, d, e].
# Seen: the list is cut into 32-bit words and filled up with zeros to four: 5, [5], [5, 0] and [5, 0, 0, 0] are one
#   stream, and [2^32 + 5, 7] is [5, 1, 7]. A stream for (seed, epoch) at epoch 0 is that of the bare seed.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/env"
"$work/env/bin/pip" install --quiet --disable-pip-version-check uv==0.13.9
"$work/env/bin/uv" pip install --quiet --python "$work/env/bin/python" numpy==2.3.5
cd "$work"
cat > check.py <<'PY'
import sys
import numpy as np

def stream(seed):
    return np.random.default_rng(seed).integers(1 << 60, size=4).tolist()

zeros = all(stream(seed) == stream(5) for seed in ([5], [5, 0], [5, 0, 0, 0]))
words = stream([2**32 + 5, 7]) == stream([5, 1, 7])
fifth = stream([5, 0, 0, 0, 0]) == stream(5)
print("zeros make no difference:", zeros, " large seeds are split:", words, " a fifth word counts:", not fifth)
if (zeros, words, fifth) != (True, True, False):
    sys.exit("changed")
PY
env/bin/python check.py
