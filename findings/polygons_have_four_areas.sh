#!/usr/bin/env bash
# numpy 2.3.5, pillow 12.3.0, opencv-python-headless 5.0.0.93, scikit-image 0.26.0, pycocotools 2.0.11
# Expected: one outline with whole-number corners, filled by four libraries, covers the same pixels but for ties.
# Seen: a triangle of area 58 covers 76 pixels in OpenCV, 72 in Pillow, 62 in scikit-image and 57 in pycocotools; a
#   square of 10 by 10 covers 121, 121, 121 and 100. Outlines count the border or not, so regions of faces made by one
#   and scored by another differ by their rim.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/env"
"$work/env/bin/pip" install --quiet --disable-pip-version-check uv==0.13.9
"$work/env/bin/uv" pip install --quiet --python "$work/env/bin/python" numpy==2.3.5 pillow==12.3.0 opencv-python-headless==5.0.0.93 scikit-image==0.26.0 pycocotools==2.0.11
cd "$work"
cat > check.py <<'PY'
import sys
import cv2
import numpy as np
import skimage.draw
from PIL import Image, ImageDraw
from pycocotools import mask as coco

def areas(points):
    by_cv = np.zeros((32, 32), np.uint8)
    cv2.fillPoly(by_cv, [np.int32(points)], 1)
    by_pil = Image.new("L", (32, 32))
    ImageDraw.Draw(by_pil).polygon(points, fill=1)
    by_skimage = np.zeros((32, 32), np.uint8)
    by_skimage[skimage.draw.polygon([y for _, y in points], [x for x, _ in points])] = 1
    by_coco = coco.decode(coco.merge(coco.frPyObjects([[float(v) for p in points for v in p]], 32, 32)))
    return [int(np.asarray(mask).sum()) for mask in (by_cv, by_pil, by_skimage, by_coco)]

triangle, square = areas([(10, 10), (20, 14), (16, 24)]), areas([(10, 10), (20, 10), (20, 20), (10, 20)])
print("OpenCV, Pillow, scikit-image, pycocotools: triangle", triangle, "square", square)
if (triangle, square) != ([76, 72, 62, 57], [121, 121, 121, 100]):
    sys.exit("changed")
PY
env/bin/python check.py
