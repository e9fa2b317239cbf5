#!/usr/bin/env bash
# torch 2.11.0, numpy 2.3.5
# Expected: walking through a DataLoader without shuffling and without workers draws nothing at random.
# Seen: each iterator takes one number from the global generator (a seed for workers that do not exist), so an
#   evaluation between two training steps changes all that is drawn afterwards, dropout included; a generator of its
#   own prevents it.
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
from torch.utils.data import DataLoader

def after(loader):
    torch.manual_seed(0)
    if loader is not None:
        list(loader)
    return torch.rand(1).item()

nothing, plain = after(None), after(DataLoader(range(3)))
own = after(DataLoader(range(3), generator=torch.Generator()))
print("next number: no loader", nothing, " loader", plain, " loader with a generator", own)
if plain == nothing or own != nothing:
    sys.exit("changed")
PY
env/bin/python check.py
