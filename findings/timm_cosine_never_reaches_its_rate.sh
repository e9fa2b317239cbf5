#!/usr/bin/env bash
# timm 1.0.31, torch 2.11.0, torchvision 0.26.0, numpy 2.3.5
# Expected: warm-up to the given rate, then a cosine from it to zero: the highest rate is the one asked for.
# Seen: with warmup_t=5 of 20 the rate climbs 0, 0.2 ... 0.8 and goes on with 0.854: the cosine has run along
#   underneath, so the peak is 15 % under the rate asked for. warmup_prefix=True gives the expected shape.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/env"
"$work/env/bin/pip" install --quiet --disable-pip-version-check uv==0.13.9
"$work/env/bin/uv" pip install --quiet --python "$work/env/bin/python" timm==1.0.31 torch==2.11.0 torchvision==0.26.0 numpy==2.3.5
cd "$work"
cat > check.py <<'PY'
import sys
import torch
from timm.scheduler import CosineLRScheduler

def rates(**options):
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.ones(1))], 1.0)
    schedule = CosineLRScheduler(optimizer, t_initial=20, warmup_t=5, warmup_lr_init=0.0, **options)
    seen = [optimizer.param_groups[0]["lr"]]
    for epoch in range(1, 26):
        schedule.step(epoch)
        seen.append(round(optimizer.param_groups[0]["lr"], 4))
    return seen

plain, prefixed = rates(), rates(warmup_prefix=True)
print("peak", max(plain), "start", plain[:7], "with a prefix", max(prefixed))
if max(plain) != 0.8536 or max(prefixed) != 1.0:
    sys.exit("changed")
PY
env/bin/python check.py
