#!/usr/bin/env bash
# av 16.0.1 (FFmpeg 8), pillow 12.3.0, numpy 2.3.5
# Expected: a JPEG with halved colours (4:2:0, as most photos have) is decoded to the same RGB by FFmpeg and by libjpeg,
#   to about 3 levels; if not, `interpolation=` of the conversion decides how colours are brought to full size.
# Seen: FFmpeg gives each halved colour to four pixels as it is, where libjpeg interpolates: up to 17 levels and 3.2 on
#   average in a smooth picture. BILINEAR, BICUBIC and LANCZOS change no pixel of that. PyAV and readers built on
#   FFmpeg, such as spdl, give a network other pixels than Pillow, OpenCV, torchvision and DALI.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/env"
"$work/env/bin/pip" install --quiet --disable-pip-version-check uv==0.13.9
"$work/env/bin/uv" pip install --quiet --python "$work/env/bin/python" av==16.0.1 pillow==12.3.0 numpy==2.3.5
cd "$work"
cat > check.py <<'PY'
import sys

import av
import numpy as np
from PIL import Image

y, x = np.mgrid[0:96, 0:96]
waves = np.stack([np.sin(x / 9), np.cos(y / 7), np.sin((x + y) / 11)], 2)
Image.fromarray((128 + 100 * waves).astype(np.uint8)).save("waves.jpg", quality=95, subsampling=2)
pillow = np.asarray(Image.open("waves.jpg").convert("RGB")).astype(float)


def decoded(**options):
    with av.open("waves.jpg") as file:
        frame = next(file.decode(video=0))
        return frame.to_ndarray(), frame.reformat(format="rgb24", **options).to_ndarray().astype(float)


planes, ffmpeg = decoded()
light = planes[:96].astype(float)
blue, red = (planes[n : n + 24].reshape(48, 48).repeat(2, 0).repeat(2, 1) - 128.0 for n in (96, 120))
repeated = np.stack([light + 1.402 * red, light - 0.344136 * blue - 0.714136 * red, light + 1.772 * blue], 2)
repeated = repeated.clip(0, 255)
found = {
    "FFmpeg and Pillow": (abs(ffmpeg - pillow).max(), round(abs(ffmpeg - pillow).mean(), 1)),
    "FFmpeg and repeated colours": (abs(ffmpeg - repeated).max().round(), round(abs(ffmpeg - repeated).mean(), 1)),
    "asked for another interpolation": max(
        abs(decoded(interpolation=name)[1] - ffmpeg).max() for name in ("BILINEAR", "BICUBIC", "LANCZOS")
    ),
}
for name, value in found.items():
    print(f"{name}: {value}")
near, far = found["FFmpeg and repeated colours"], found["FFmpeg and Pillow"]
if not (far[0] > 10 and far[1] > 2.5 and near[0] <= 3 and near[1] < 1 and found["asked for another interpolation"] == 0):
    sys.exit("changed")
PY
env/bin/python check.py
