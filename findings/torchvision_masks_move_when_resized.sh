#!/usr/bin/env bash
# torch 2.11.0, torchvision 0.26.0, numpy 2.3.5
# Expected: v2.Resize of a picture and of its Mask keep the two on each other, to within half a pixel of the small one
#   on either side alike.
# Seen: the mask is sampled at the upper left corner of each pixel, not at its centre: from 512 to 112 pixels the
#   region's centre moves right and down by about two pixels of the large picture on average (half of 512/112 - 1),
#   the picture's by none.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/env"
"$work/env/bin/pip" install --quiet --disable-pip-version-check uv==0.13.9
"$work/env/bin/uv" pip install --quiet --python "$work/env/bin/python" torch==2.11.0 torchvision==0.26.0 numpy==2.3.5
cd "$work"
cat > check.py <<'PY'
import sys
import torch
import torchvision.transforms.v2 as v2
from torchvision import tv_tensors

rows, columns = torch.meshgrid(torch.arange(512), torch.arange(512), indexing="ij")
side = 112
centre = lambda m: ((m * (torch.arange(side) + 0.5)).sum() / m.sum() * 512 / side).item()
moved = []
for x in range(200, 264, 3):
    disc = (((columns - x) ** 2 + (rows - 250) ** 2) < 60**2).to(torch.uint8)
    picture, mask = v2.Resize((side, side))(tv_tensors.Image(disc[None] * 255), tv_tensors.Mask(disc))
    moved.append([centre(picture[0].double()) - x - 0.5, centre(mask.double()) - x - 0.5])
picture, mask = torch.tensor(moved).mean(0).tolist()
print(f"shift of the picture {picture:.2f} px, of the mask {mask:.2f} px")
if abs(picture) > 0.05 or not 1.3 < mask < 2.6:
    sys.exit("changed")
PY
env/bin/python check.py
