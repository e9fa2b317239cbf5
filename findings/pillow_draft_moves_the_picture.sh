#!/usr/bin/env bash
# numpy 2.3.5, pillow 12.3.0
# Expected: letting the JPEG decoder halve a picture first (`draft`) and then resizing shows things where resizing alone does.
# Seen: a picture of 1001 pixels is halved to 501, whose last pixel is half outside the picture. `resize` takes them for the whole:
#   what was at 990 is a pixel of the original to the left. The box that `draft` returns, which the documentation of `draft`
#   does not speak of, mends it.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/env"
"$work/env/bin/pip" install --quiet --disable-pip-version-check uv==0.13.9
"$work/env/bin/uv" pip install --quiet --python "$work/env/bin/python" numpy==2.3.5 pillow==12.3.0
cd "$work"
cat > check.py <<'PY'
import io
import sys
import numpy as np
from PIL import Image

WIDTH, PLACE, SMALL = 1001, 940.0, 250
spot = 250 * np.exp(-((np.arange(WIDTH) + 0.5 - PLACE) ** 2) / 800)
file = io.BytesIO()
Image.fromarray(np.repeat(spot[None].astype(np.uint8), 1001, 0)).save(file, "JPEG", quality=98)

def place(halved, boxed):
    image = Image.open(io.BytesIO(file.getvalue()))
    box = image.draft("L", (2 * SMALL, 2 * SMALL))[1] if halved else None
    small = np.asarray(image.resize((SMALL, SMALL), Image.Resampling.LANCZOS, box if boxed else None), float)[100]
    small = np.where(small > 10, small, 0)
    return float(small @ (np.arange(SMALL) + 0.5) / small.sum() * WIDTH / SMALL)

off = [round(place(*how) - place(False, False), 2) for how in ((True, False), (True, True))]
print("halved first, the spot is off by", off[0], "pixels of the original; with the box of draft by", off[1])
if not (-1.2 < off[0] < -0.7 and abs(off[1]) < 0.1):
    sys.exit("changed")
PY
env/bin/python check.py
