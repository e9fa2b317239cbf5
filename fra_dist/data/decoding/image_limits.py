"""Why a photo cannot be used, and how large it may be: bounds on pixels, and on the memory that decoding takes."""

MAX_PIXELS = 64_000_000
"""Most pixels of a photo; one with more is refused."""
MAX_MEMORY = 640 << 20
"""Most bytes that decoding a photo may take, by the estimate of `check_memory`; one that needs more is refused."""

_STORED = {"1": 1, "L": 1, "P": 1}
_RGB, _ARRAY = 4, 3  # bytes a pixel of Pillow's RGB images and of ours


class BadImage(Exception):
    """The bytes cannot be used as a photo; the message says why, in a few words."""


def check_size(height: int, width: int) -> None:
    """Raise BadImage for a photo without pixels or with more than MAX_PIXELS."""
    if height < 1 or width < 1:
        raise BadImage("no pixels")
    if height * width > MAX_PIXELS:
        raise BadImage(f"{width}x{height} pixels, more than {MAX_PIXELS // 1_000_000} million")


def check_memory(height: int, width: int, mode: str, coefficients: int = 0) -> None:
    """Raise BadImage for a photo whose decoding takes more than MAX_MEMORY bytes.

    Counted are the image that Pillow holds in `mode`, a second copy in RGB, and the array of its pixels. coefficients:
    bytes per pixel that a progressive JPEG holds until its last scan.
    """
    stored = 2 if mode.startswith("I;16") else _STORED.get(mode, 4)
    converted = 0 if mode == "RGB" else _RGB
    need = height * width * (stored + converted + _ARRAY + coefficients)
    if need > MAX_MEMORY:
        raise BadImage(f"{width}x{height} pixels take {need >> 20} MiB to decode, more than {MAX_MEMORY >> 20}")
