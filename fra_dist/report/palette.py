"""One colour per region, the same in every picture of every run.

The first seven are Okabe and Ito's (2008), chosen for readers of every colour vision. The others were found one by one
as the sRGB colour farthest from all earlier ones in OKLab, counting the smallest distance among normal vision and
simulated deuteranopia and protanopia (Machado et al. 2009).
"""

import numpy as np
from numpy.typing import NDArray

_REGIONS = """
E69F00 0072B2 009E73 CC79A7 56B4E9 D55E00 F0E442 8E1045  21FFE9 0000FF 857AFF 85C890 642C90 9B4300 B13785 D300BC
641600 9BD3FF FF4E6F E9DEB1 590B59 0000BC 3764E9 FF7AD3  E9B1C8 214E59 D3C859 BC434E D3FF9B 430085 BC6FD3 6F9BFF
85210B D3852C 006F7A 6F0037 4E21D3 C89BA6 216F37 9B6F9B  A67A4E 00E985 B1B164 59437A 90A6C8 9B4EA6 90F47A 852CA6
646FD3 F4C8C8 7A850B 854E64 43B185 FFB1E9 2C4E21 21376F  599BB1 FFB100 FFDEFF 64A643 E9F4C8 DEFF00 2164C8 4E90E9
"""
_CLASSES = "2B2F38 7A5C3E E3B79A 1F6F8B F7F4EA C9A227 C8385A"


def _table(codes: str) -> NDArray[np.uint8]:
    return np.array([tuple(bytes.fromhex(code)) for code in codes.split()], np.uint8)


REGION_COLOURS = _table(_REGIONS)
"""(64, 3) sRGB: row q is the colour of region q."""
CLASS_COLOURS = _table(_CLASSES)
"""(7, 3) sRGB of the synthetic masks: background, hair, skin, brows, eyes, nose, mouth."""


def region_hex(region: int) -> str:
    """Colour of a region as hexadecimal text, for example `#e69f00` for region 0."""
    return "#" + bytes(REGION_COLOURS[region]).hex()
