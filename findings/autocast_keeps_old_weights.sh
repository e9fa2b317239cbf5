#!/usr/bin/env bash
# torch 2.11.0, numpy 2.3.5
# Expected: a weight changed in place under no_grad (an EMA update, a clamp) is used by the next forward.
# Seen: within one autocast block the bfloat16 copy made by the first forward is used again: the second forward runs
#   with the old weight. cache_enabled=False, or a new block, sees the new one.
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

def outputs(**options):
    layer = torch.nn.Linear(1, 1, bias=False)
    layer.weight.data.fill_(1.0)
    with torch.autocast("cpu", torch.bfloat16, **options):
        first = layer(torch.ones(1, 1)).item()
        with torch.no_grad():
            layer.weight.fill_(5.0)
        return first, layer(torch.ones(1, 1)).item()

cached, fresh = outputs(), outputs(cache_enabled=False)
print("weight 1, then 5: with the cache", cached, " without", fresh)
if cached != (1.0, 1.0) or fresh != (1.0, 5.0):
    sys.exit("changed")
PY
env/bin/python check.py
