#!/usr/bin/env bash
# torch 2.11.0, torchvision 0.26.0, albumentations 2.0.8, numpy 2.3.5
# Expected: a key point on a bright spot stays on it when picture and point are scaled together, as it does when they are flipped.
# Seen: flips count points from the middle of the first pixel (x becomes width - 1 - x) and are exact; `Resize` multiplies, which
#   is right for points counted from its edge. A spot scaled from 256 pixels to 64 is 0.375 pixels from its point in both libraries.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/env"
"$work/env/bin/pip" install --quiet --disable-pip-version-check uv==0.13.9
"$work/env/bin/uv" pip install --quiet --python "$work/env/bin/python" torch==2.11.0 torchvision==0.26.0 albumentations==2.0.8 numpy==2.3.5
cd "$work"
cat > check.py <<'PY'
import sys
import albumentations
import cv2
import numpy as np
import torch
from torchvision import tv_tensors
from torchvision.transforms.v2 import functional

WIDTH, PLACE = 256, (100.0, 140.0)  # x, y of a spot, from the middle of the first pixel
x, y = np.arange(WIDTH)[None], np.arange(WIDTH)[:, None]
spot = (250 * np.exp(-((x - PLACE[0]) ** 2 + (y - PLACE[1]) ** 2) / 200)).astype(np.uint8)

def centre(levels):
    levels = np.asarray(levels, float)
    n = np.arange(len(levels))
    return np.array([levels.sum(0) @ n, levels.sum(1) @ n]) / levels.sum()

def by_torchvision(operation):
    picture = tv_tensors.Image(torch.from_numpy(spot)[None])
    points = tv_tensors.KeyPoints(torch.tensor([PLACE]), canvas_size=(WIDTH, WIDTH))
    return operation(points)[0].numpy() - centre(operation(picture)[0].numpy())

def by_albumentations(transform):
    keypoints = albumentations.KeypointParams(format="xy")
    found = albumentations.Compose([transform], keypoint_params=keypoints)(image=spot, keypoints=np.array([PLACE]))
    return np.asarray(found["keypoints"])[0] - centre(found["image"])

def scaled(some):
    return functional.resize(some, [64, 64])

area = albumentations.Resize(64, 64, interpolation=cv2.INTER_AREA)
off = {
    "torchvision flip": by_torchvision(functional.horizontal_flip),
    "torchvision resize": by_torchvision(scaled),
    "albumentations flip": by_albumentations(albumentations.HorizontalFlip(p=1)),
    "albumentations resize": by_albumentations(area),
}
print({name: np.round(value, 2).tolist() for name, value in off.items()})
for name, value in off.items():
    if not np.allclose(value, 0 if "flip" in name else 0.375, atol=0.05):
        sys.exit("changed")
PY
NO_ALBUMENTATIONS_UPDATE=1 env/bin/python check.py
