#!/usr/bin/env bash
# nvidia-dali-cuda130 2.4.0, torch 2.11.0, torchvision 0.26.0, numpy 2.3.5
# Expected: resize_shorter in DALI and Resize(int) in torchvision give pictures of one size.
# Seen: DALI rounds the longer side, torchvision cuts it: of 20 widths from 161 to 180 at height 120, resized to 50,
#   ten come out one column wider in DALI.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/env"
"$work/env/bin/pip" install --quiet --disable-pip-version-check uv==0.13.9
"$work/env/bin/uv" pip install --quiet --python "$work/env/bin/python" nvidia-dali-cuda130==2.4.0 torch==2.11.0 torchvision==0.26.0 numpy==2.3.5
cd "$work"
cat > check.py <<'PY'
import sys
import numpy as np
import nvidia.dali.fn as fn
import torch
import torchvision.transforms.v2.functional as F
from nvidia.dali import pipeline_def

pictures = [np.full((120, width, 3), 128, np.uint8) for width in range(161, 181)]

@pipeline_def(batch_size=20, num_threads=1, device_id=None)
def graph():
    return fn.resize(fn.external_source(source=lambda: pictures), resize_shorter=50.0)

pipe = graph()
pipe.build()
(out,) = pipe.run()
by_dali = [out.at(i).shape[1] for i in range(20)]
by_torch = [F.resize(torch.from_numpy(p).permute(2, 0, 1), 50).shape[2] for p in pictures]
wider = [a - b for a, b in zip(by_dali, by_torch)]
print("columns more in DALI:", wider)
if sorted(wider) != [0] * 10 + [1] * 10:
    sys.exit("changed")
PY
env/bin/python check.py
