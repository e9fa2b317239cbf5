#!/usr/bin/env bash
# numpy 2.3.5, pillow 12.3.0
# Expected: `ImageDraw.polygon` takes fractional corners to the nearest pixel, or shades the pixels that they cover in part.
# Seen: corners are cut to whole numbers: a polygon moved by 0.9 pixels does not move, one moved by -0.1 moves by a whole one.
#   Read as middles of pixels, as whole numbers are, landmarks drawn so lie half a pixel up and to the left on average.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/env"
"$work/env/bin/pip" install --quiet --disable-pip-version-check uv==0.13.9
"$work/env/bin/uv" pip install --quiet --python "$work/env/bin/python" numpy==2.3.5 pillow==12.3.0
cd "$work"
cat > check.py <<'PY'
import sys
import numpy as np
from PIL import Image, ImageDraw

def middle(shift):
    image = Image.new("L", (64, 64))
    ImageDraw.Draw(image).polygon([(x + shift, y + shift) for x, y in ((20, 20), (40, 20), (40, 40), (20, 40))], fill=1)
    return float(np.argwhere(np.asarray(image)).mean())

moved = {shift: middle(shift) - 30 for shift in (0, 0.3, 0.6, 0.9, 1.0, -0.1, -0.9)}
print("asked for a shift of, drawn with:", moved)
if moved != {0: 0, 0.3: 0, 0.6: 0, 0.9: 0, 1.0: 1, -0.1: -1, -0.9: -1}:
    sys.exit("changed")
PY
env/bin/python check.py
