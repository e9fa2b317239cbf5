#!/usr/bin/env bash
# deepspeed 0.19.8, torch 2.11.0, numpy 2.3.5, setuptools 81.0.0
# Expected: WarmupLR climbs in a line from the first step on: with ten steps to 1.0 the rates 0, 0.1, 0.2, and half of
#   the rate at half of the way.
# Seen: the first two steps both run at rate 0 (the second does the work of the first), and by default the climb is
#   logarithmic: 0, 0, 0.30, 0.48, 0.60 ... with 0.7 at the fifth of ten; with warmup_type linear it is 0, 0, 0.1,
#   0.2.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/env"
"$work/env/bin/pip" install --quiet --disable-pip-version-check uv==0.13.9
"$work/env/bin/uv" pip install --quiet --python "$work/env/bin/python" deepspeed==0.19.8 torch==2.11.0 numpy==2.3.5 setuptools==81.0.0
cd "$work"
cat > check.py <<'PY'
import os
import sys

os.environ["DS_ACCELERATOR"] = "cpu"
import torch
from deepspeed.runtime.lr_schedules import WarmupLR

def rates(**options):
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.ones(1))], 1.0)
    schedule = WarmupLR(optimizer, warmup_min_lr=0.0, warmup_max_lr=1.0, warmup_num_steps=10, **options)
    used = []
    for _ in range(6):
        used.append(round(optimizer.param_groups[0]["lr"], 2))
        optimizer.step()
        schedule.step()
    return used

default, line = rates(), rates(warmup_type="linear")
print("rates used by steps 1 to 6: default", default, "linear", line)
if default != [0.0, 0.0, 0.3, 0.48, 0.6, 0.7] or line != [0.0, 0.0, 0.1, 0.2, 0.3, 0.4]:
    sys.exit("changed")
PY
env/bin/python check.py
