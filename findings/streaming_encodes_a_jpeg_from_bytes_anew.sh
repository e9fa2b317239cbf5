#!/usr/bin/env bash
# mosaicml-streaming 0.13.0, pillow 12.3.0
# Expected: a column of type `jpeg` keeps the bytes of a JPEG that Pillow has opened, wherever from.
# Seen: only if Pillow opened it by a path, which is then read again. The same photo opened from bytes, as it comes out
#   of a tar or an object store, is encoded anew at Pillow's default quality, silently: other pixels, up to 16 levels.
#   The type `jpeg` therefore stores two qualities of one data set, by where its photos came from.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/env"
"$work/env/bin/pip" install --quiet --disable-pip-version-check uv==0.13.9
"$work/env/bin/uv" pip install --quiet --python "$work/env/bin/python" mosaicml-streaming==0.13.0 pillow==12.3.0
cd "$work"
cat > check.py <<'PY'
import io
import sys

import numpy as np
from PIL import Image
from streaming import MDSWriter, StreamingDataset

y, x = np.mgrid[0:96, 0:96]
waves = np.stack([np.sin(x / 9), np.cos(y / 7), np.sin((x + y) / 11)], 2)
Image.fromarray((128 + 100 * waves).astype(np.uint8)).save("waves.jpg", quality=95)
data = open("waves.jpg", "rb").read()
original = np.asarray(Image.open("waves.jpg")).astype(int)
with MDSWriter(out="set", columns={"path": "jpeg", "bytes": "jpeg"}) as writer:
    writer.write({"path": Image.open("waves.jpg"), "bytes": Image.open(io.BytesIO(data))})
sample = StreamingDataset(local="set", shuffle=False, batch_size=1)[0]
off = {name: int(abs(np.asarray(sample[name]).astype(int) - original).max()) for name in ("path", "bytes")}
print("levels off the photo, by what Pillow opened:", off)
if off["path"] != 0 or off["bytes"] < 5:
    sys.exit("changed")
PY
env/bin/python check.py
