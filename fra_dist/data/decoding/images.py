"""Encoded photos: what the first bytes promise, and a decoder that takes whatever Pillow reads.

`probe` is a cheap look (microseconds) that finds the usual damage before a decoder meets it and tells the size, so
that views never depend on what an index claims. Sizes are those of the upright photo, after its EXIF rotation.
"""

import functools
import io
import struct
import warnings
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

MAX_PIXELS = 64_000_000
"""A photo with more pixels is refused: its decoding would take hundreds of megabytes."""

# What Pillow may open: pictures only, none of the formats that start another program.
FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF", "PPM", "AVIF")


def formats() -> tuple[str, ...]:
    """Those that Pillow may open here: FORMATS, and HEIF where the package pillow-heif is installed."""
    return (*FORMATS, "HEIF") if heif_can_be_read() else FORMATS


@functools.cache
def heif_can_be_read() -> bool:
    """Registers the plugin on the first call."""
    try:
        from pillow_heif import register_heif_opener
    except ImportError:
        return False
    register_heif_opener()
    return True


Image.init()  # Pillow loads its plugins on first use, and threads that meet there miss some


class BadImage(Exception):
    """The bytes cannot be used as a photo; the message says why, in a few words."""


@dataclass(frozen=True)
class Head:
    """What a photo's header says: upright size in pixels, and whether it is of the plain kinds."""

    height: int
    width: int
    plain: bool
    """A baseline or progressive 8-bit JPEG of one or three components: every decoder gives the same pixels."""


def probe(data: bytes) -> Head:
    """Raises BadImage for empty, truncated, foreign or oversized data, as far as the header tells."""
    if not data:
        raise BadImage("empty")
    head = _probe_jpeg(data) if data[:3] == b"\xff\xd8\xff" else _probe_other(data)
    _check_size(head.height, head.width)
    return head


def _check_size(height: int, width: int) -> None:
    if height < 1 or width < 1:
        raise BadImage("no pixels")
    if height * width > MAX_PIXELS:
        raise BadImage(f"{width}x{height} pixels, more than {MAX_PIXELS // 1_000_000} million")


def decode(data: bytes) -> NDArray[np.uint8]:
    """Upright RGB pixels (H, W, 3) of the first frame. Raises BadImage when they cannot be had completely."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # odd EXIF blocks and palettes make Pillow talk
            with Image.open(io.BytesIO(data), formats=formats()) as image:
                if image.width * image.height > MAX_PIXELS:
                    raise BadImage(f"{image.width}x{image.height} pixels")
                image.load()
                return np.asarray(to_rgb(ImageOps.exif_transpose(image)))
    except BadImage:
        raise
    except MemoryError:
        raise BadImage("too large to decode") from None
    except Exception as error:  # a damaged file can raise nearly anything inside a decoder
        raise BadImage(" ".join(str(error).split())[:120] or type(error).__name__) from None


def to_rgb(image: Image.Image) -> Image.Image:
    """8-bit RGB of any mode; of 16 bits the upper eight; transparency is dropped. Raises BadImage for floats."""
    if image.mode.startswith(("I", "F")):
        values = np.asarray(image).astype(np.float64)
        if image.mode == "F":
            raise BadImage("floating-point pixels")
        deep = image.mode != "I" or values.max(initial=0) > 255  # 16 bits: keep the upper eight
        return Image.fromarray((values / 256 if deep else values).clip(0, 255).astype(np.uint8)).convert("RGB")
    return image.convert("RGB")


def _probe_other(data: bytes) -> Head:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(io.BytesIO(data), formats=formats()) as image:
                width, height = image.size
                _check_size(height, width)  # before the EXIF block: that of a PNG may come behind the pixels
                turned = _may_be_turned(data) and image.getexif().get(0x0112, 1) in (5, 6, 7, 8)
    except BadImage:
        raise
    except Image.DecompressionBombError:
        raise BadImage("more pixels than can be decoded safely") from None
    except UnidentifiedImageError:
        raise BadImage("not an image") from None
    except Exception as error:  # a damaged header can raise nearly anything
        cut = "truncated" in str(error).lower()
        raise BadImage("truncated" if cut else "damaged header") from None
    return Head(width, height, False) if turned else Head(height, width, False)


def _may_be_turned(data: bytes) -> bool:
    """False where there is surely no EXIF block: Pillow decodes the whole of a PNG to look for one at its end."""
    if data[:8] != b"\x89PNG\r\n\x1a\n":
        return True
    if data.rfind(b"IEND") < 0:
        raise BadImage("truncated")
    return any(name in data for name in (b"eXIf", b"exif", b"xmp"))


_START_OF_FRAME = frozenset({*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC})
_NO_LENGTH = frozenset({0x01, *range(0xD0, 0xD8)})


def _probe_jpeg(data: bytes) -> Head:
    """Walk the segments (ITU-T T.81, annex B) up to the first scan."""
    at, end, size, plain, turned = 2, len(data), None, False, False
    while True:
        while at + 1 < end and data[at] == 0xFF and data[at + 1] == 0xFF:  # fill bytes
            at += 1
        if at + 4 > end:
            raise BadImage("truncated")
        if data[at] != 0xFF:
            raise BadImage("damaged header")
        marker = data[at + 1]
        if marker in _NO_LENGTH:
            at += 2
            continue
        length = data[at + 2] << 8 | data[at + 3]
        if marker in _START_OF_FRAME:
            if at + 10 > end:
                raise BadImage("truncated")
            bits, height, width, components = struct.unpack_from(">BHHB", data, at + 4)
            size, plain = (height, width), marker in (0xC0, 0xC1, 0xC2) and bits == 8 and components in (1, 3)
        elif marker == 0xE1 and data[at + 4 : at + 10] == b"Exif\0\0":
            turned = turned or _exif_orientation(data[at + 10 : at + 2 + length]) in (5, 6, 7, 8)
        elif marker == 0xDA:
            break
        elif marker == 0xD9 or length < 2:
            raise BadImage("damaged header")
        at += 2 + length
    if size is None:
        raise BadImage("damaged header")
    if data.rfind(b"\xff\xd9", at) < 0:
        raise BadImage("truncated")
    if b"tiff:Orientation" in data[:at]:  # in XMP, which Pillow heeds and other decoders do not
        return _probe_other(data)
    return Head(size[1], size[0], plain) if turned else Head(*size, plain)


def _exif_orientation(tiff: bytes) -> int:
    """Tag 0x0112 of the first directory (TIFF 6.0, section 2); 1 when it is absent or the block is damaged."""
    order = {b"II": "<", b"MM": ">"}.get(tiff[:2])
    try:
        if order is None:
            return 1
        (start,) = struct.unpack_from(order + "I", tiff, 4)
        (count,) = struct.unpack_from(order + "H", tiff, start)
        for entry in range(count):
            tag, kind = struct.unpack_from(order + "HH", tiff, start + 2 + 12 * entry)
            if tag == 0x0112 and kind == 3:
                return int(struct.unpack_from(order + "H", tiff, start + 10 + 12 * entry)[0])
    except struct.error:
        pass
    return 1
