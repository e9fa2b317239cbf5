#!/usr/bin/env bash
# imageio 2.38.1, pillow 12.3.0, torch 2.11.0, torchvision 0.26.0, numpy 2.3.5
# Expected: a palette PNG of label numbers is read as numbers, as Pillow and torchvision read it.
# Seen: imageio (and scikit-image, which reads by it) looks the colours up and returns three channels; the label
#   numbers are gone. Pillow and torchvision return them.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/env"
"$work/env/bin/pip" install --quiet --disable-pip-version-check uv==0.13.9
"$work/env/bin/uv" pip install --quiet --python "$work/env/bin/python" imageio==2.38.1 pillow==12.3.0 torch==2.11.0 torchvision==0.26.0 numpy==2.3.5
cd "$work"
cat > check.py <<'PY'
import sys
import imageio.v3 as imageio
import numpy as np
import torchvision
from PIL import Image

labels = Image.frombytes("P", (3, 2), bytes(range(6)))
labels.putpalette([v for i in range(256) for v in (255 - i, i, 7)])
labels.save("labels.png")
shapes = {"imageio": imageio.imread("labels.png").shape, "Pillow": np.asarray(Image.open("labels.png")).shape,
          "torchvision": tuple(torchvision.io.decode_image("labels.png").shape)}
print(shapes)
if shapes != {"imageio": (2, 3, 3), "Pillow": (2, 3), "torchvision": (1, 2, 3)}:
    sys.exit("changed")
PY
env/bin/python check.py
