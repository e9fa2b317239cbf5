#!/usr/bin/env bash
# torch 2.11.0, numpy 2.3.5
# Expected: AveragedModel with decay 0.9, made from a weight of 1 and updated with 2, holds 0.9 * 1 + 0.1 * 2 = 1.1.
# Seen: it holds 2: the first update copies, whatever the decay, so a target network with a start of its own is
#   overwritten by the first step; the second averages.
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
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

online = torch.nn.Linear(1, 1, bias=False)
online.weight.data.fill_(1.0)
target = AveragedModel(online, multi_avg_fn=get_ema_multi_avg_fn(0.9))
seen = []
for value in (2.0, 3.0):
    online.weight.data.fill_(value)
    target.update_parameters(online)
    seen.append(round(target.module.weight.item(), 4))
print("after updates with 2 and 3:", seen)
if seen != [2.0, 2.1]:
    sys.exit("changed")
PY
env/bin/python check.py
