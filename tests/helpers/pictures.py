"""Encoded pictures for tests."""

import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image


def encoded(pixels: NDArray[np.uint8], kind: str = "PNG") -> bytes:
    """Pixels (H, W) or (H, W, 3) as the bytes of a file."""
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, kind)
    return out.getvalue()
