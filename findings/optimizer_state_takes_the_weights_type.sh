#!/usr/bin/env bash
# torch 2.11.0, numpy 2.3.5
# Expected: load_state_dict restores the optimiser as it was saved: float32 momentum of bfloat16 weights stays
#   float32.
# Seen: the loaded momentum is cast to the type of the weight: 24 bits become 8, without a word, at the first resume.
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

def make():
    weight = torch.nn.Parameter(torch.ones(3, dtype=torch.bfloat16))
    return weight, torch.optim.SGD([weight], 0.1, momentum=0.9)

weight, saved = make()
saved.state[weight]["momentum_buffer"] = torch.full((3,), 0.123456789)
other, loaded = make()
loaded.load_state_dict(saved.state_dict())
momentum = loaded.state[other]["momentum_buffer"]
print("saved 0.12345679 as float32, loaded", momentum[0].item(), "as", momentum.dtype)
if momentum.dtype != torch.bfloat16:
    sys.exit("changed")
PY
env/bin/python check.py
