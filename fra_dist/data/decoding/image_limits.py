"""Why a photo cannot be used, and how large it may be: bounds on pixels, and on the memory that decoding takes."""

MAX_PIXELS = 64_000_000
"""Most pixels of a photo; one with more is refused."""
MAX_MEMORY = 640 << 20
"""Most bytes that decoding a photo may take, by the estimate of `check_memory`; one that needs more is refused."""

HELD_BY_DECODER = {"WEBP": 9, "AVIF": 5, "HEIF": 5}
"""Bytes per pixel that the decoder of a format holds beside the image, as measured."""
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


def check_memory(height: int, width: int, mode: str, held: int = 0, turned: bool = False) -> None:
    """Raise BadImage for a photo whose decoding takes more than MAX_MEMORY bytes.

    Counted are the image that Pillow holds in `mode`, a turned copy of it, a copy in RGB, and the array of its pixels.
    held: bytes per pixel that the decoder holds beside them, such as the coefficients of a progressive JPEG.
    """
    stored = 2 if mode.startswith("I;16") else _STORED.get(mode, 4)
    converted = 0 if mode == "RGB" else _RGB
    need = height * width * (stored * (1 + turned) + converted + _ARRAY + held)
    if need > MAX_MEMORY:
        raise BadImage(f"{width}x{height} pixels take {need >> 20} MiB to decode, more than {MAX_MEMORY >> 20}")
