#!/usr/bin/env bash
# torch 2.11.0, torchvision 0.26.0, numpy 2.3.5
# Expected: a key point that names a lit pixel names it still after flip and rotation: picture and
#   tv_tensors.KeyPoints move together.
# Seen: flips follow the pixel (column x to W - 1 - x), rotations do not (x to W - x): after a quarter turn the point
#   lies one pixel beside the lit one, for pixels of the first column outside of the picture. Two conventions in one
#   type.
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
import torchvision.transforms.v2.functional as F
from torchvision import tv_tensors

def apart(move, x, y):
    picture = torch.zeros(1, 8, 8)
    picture[0, y, x] = 1
    lit = move(picture)[0].nonzero()[0].flip(0).tolist()
    point = move(tv_tensors.KeyPoints(torch.tensor([[float(x), float(y)]]), canvas_size=(8, 8)))[0].tolist()
    return [round(p - q, 4) for p, q in zip(point, lit)]

moves = {"horizontal flip": F.horizontal_flip, "vertical flip": F.vertical_flip,
         "rotation by 90": lambda i: F.rotate(i, 90.0), "rotation by 180": lambda i: F.rotate(i, 180.0)}
seen = {name: apart(move, 2, 1) for name, move in moves.items()}
for name, off in seen.items():
    print(f"{name}: point minus lit pixel = {off}")
if seen != {"horizontal flip": [0, 0], "vertical flip": [0, 0], "rotation by 90": [0, 1], "rotation by 180": [1, 1]}:
    sys.exit("changed")
PY
env/bin/python check.py
