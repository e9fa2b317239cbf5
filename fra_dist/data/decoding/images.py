"""Encoded photos: what their headers say, whether they are whole, and a decoder for every kind that Pillow reads.

`probe` is a cheap look (microseconds) that finds the usual damage before a decoder meets it and gives the size, so that
views never depend on what an index claims. Sizes are those of the upright photo, after its EXIF rotation.
"""

import functools
import io
import struct
import warnings
import zlib
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from fra_dist.data.decoding.image_limits import HELD_BY_DECODER, MAX_PIXELS, BadImage, check_memory, check_size
from fra_dist.stand_ins import stand_in

__all__ = [
    "MAX_PIXELS",
    "BadImage",
    "PhotoHeader",
    "check_agreement",
    "complete_bytes",
    "decode",
    "formats",
    "pixel_array",
    "probe",
    "to_rgb",
    "turn_of",
    "upright",
]

FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF", "PPM", "AVIF")
"""What Pillow may open: pictures only, and none of the formats that start another program."""


def formats() -> tuple[str, ...]:
    """The formats that Pillow may open here: FORMATS, and HEIF where the package pillow-heif is installed."""
    return (*FORMATS, "HEIF") if heif_can_be_read() else FORMATS


@functools.cache
def heif_can_be_read() -> bool:
    """Whether HEIF can be read, which takes the package pillow-heif. The first call registers it with Pillow."""
    try:
        from pillow_heif import register_heif_opener
    except ImportError:
        return False
    register_heif_opener()
    return True


Image.init()  # Pillow loads its plugins on first use, and threads that meet there miss some


@dataclass(frozen=True)
class PhotoHeader:
    """Size and kind of a photo, read from the header of its bytes without decoding a pixel."""

    height: int
    """Height of the upright photo in pixels."""
    width: int
    """Width of the upright photo in pixels."""
    plain: bool
    """Whether every decoder gives the same pixels: a baseline or progressive 8-bit JPEG of one or three components."""


def probe(data: bytes) -> PhotoHeader:
    """Parse the header of an encoded photo.

    Raises BadImage for empty, truncated, foreign or oversized data, as far as the header tells.
    """
    if not data:
        raise BadImage("empty")
    head = _probe_jpeg(data) if data[:3] == b"\xff\xd8\xff" else _probe_other(data)
    check_size(head.height, head.width)
    return head


def complete_bytes(data: bytes) -> bytes:
    """The bytes of a photo that is whole: those given, or, for a JPEG without an end mark, with one added.

    Raises BadImage for a JPEG with missing or damaged blocks, and for a PNG whose checksums do not match: decoders
    would show them as if nothing were wrong.
    """
    if data[:8] == _PNG:
        _check_png(data)
    if data[:3] != b"\xff\xd8\xff":
        return data
    from fra_dist.data.decoding.jpeg_scans import sealed  # compiled code: not for commands that open no photo

    return sealed(data)


def decode(data: bytes, checked: bool = False) -> NDArray[np.uint8]:
    """Upright RGB pixels (H, W, 3) of the first frame, with transparent parts in white.

    checked: `data` came from `complete_bytes`. Raises BadImage when the photo cannot be decoded completely.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # odd EXIF blocks and palettes make Pillow talk
            with Image.open(io.BytesIO(data if checked else complete_bytes(data)), formats=formats()) as image:
                _check_limits(image)
                turn = turn_of(image)
                _check_limits(image, turn)
                image.load()
                return pixel_array(to_rgb(upright(image, turn)))
    except BadImage:
        raise
    except MemoryError:
        raise BadImage("too large to decode") from None
    except Exception as error:  # a damaged file can raise nearly anything inside a decoder
        raise BadImage(" ".join(str(error).split())[:120] or type(error).__name__) from None


def _check_limits(image: Image.Image, turn: int = 1) -> None:
    """Raise BadImage for an image that is too large to decode. turn: its orientation, as far as it is known."""
    check_size(image.height, image.width)
    check_memory(image.height, image.width, image.mode, HELD_BY_DECODER.get(image.format or "", 0), turn in _TURNS)


_PNG = b"\x89PNG\r\n\x1a\n"


def _check_png(data: bytes) -> None:
    """Checksums of the chunks that make the picture (PNG specification, 5.3)."""
    at = len(_PNG)
    while at + 12 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, at)
        end = at + 8 + length
        if end + 4 > len(data):
            raise BadImage("truncated")
        if kind in (b"IHDR", b"PLTE", b"IDAT") and zlib.crc32(data[at + 4 : end]).to_bytes(4) != data[end : end + 4]:
            raise BadImage("damaged: a checksum does not fit")
        if kind == b"IEND":
            return
        at = end + 4
    raise BadImage("truncated")


def check_agreement(head: PhotoHeader, height: int, width: int) -> None:
    """Raise BadImage when the decoder gives another size than the header, by which the views are drawn."""
    if (height, width) != (head.height, head.width):
        raise BadImage(f"its header says {head.width}x{head.height} pixels, its decoder gives {width}x{height}")


_ORIENTATION = 0x0112
UNREADABLE = -1
"""What `turn_of` gives for a damaged EXIF block."""
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def turn_of(image: Image.Image) -> int:
    """Orientation of an image that is open and not loaded, 1 to 8 as EXIF counts them; every caller gets it from here.

    The tag may be of any type. UNREADABLE when the EXIF block is damaged; the image is then taken for upright. Always 1
    for TIFF, which Pillow rotates itself.
    """
    if image.format == "TIFF":
        return 1
    if image.format == "PNG":  # its EXIF may come last: a failure to get there is one of the pixels, not of the block
        image.load()
    try:
        value = image.getexif().get(_ORIENTATION, 1)
    except Exception:  # whatever the parser meets in foreign bytes
        return UNREADABLE
    return next((turn for turn in _TURNS if value == turn), 1)


def upright(image: Image.Image, turn: int) -> Image.Image:
    """The image rotated or mirrored to be upright; `turn` is its orientation from `turn_of`."""
    return image.transpose(_TURNS[turn]) if turn in _TURNS else image


_STRIP = 1 << 22  # pixels that are converted at a time, so that large photos need no second copy of everything


def _strips(image: Image.Image) -> list[tuple[int, int]]:
    rows = max(1, _STRIP // max(1, image.width))
    return [(top, min(top + rows, image.height)) for top in range(0, image.height, rows)]


def pixel_array(image: Image.Image) -> NDArray[np.uint8]:
    """Pixels of an image as uint8: (H, W) of a grey one, (H, W, 3) of an RGB one."""
    strips = _strips(image)
    if len(strips) < 2:
        return np.asarray(image)
    shape = (image.height, image.width) if image.mode == "L" else (image.height, image.width, 3)
    out = np.empty(shape, np.uint8)
    for top, bottom in strips:
        out[top:bottom] = np.asarray(image.crop((0, top, image.width, bottom)))
    return out


def to_rgb(image: Image.Image) -> Image.Image:
    """An image of any mode as 8-bit RGB; 16-bit pixels keep their upper eight bits, transparent parts become white.

    Raises BadImage for floating-point pixels.
    """
    if image.mode == "RGB" and not image.has_transparency_data:
        return image
    if image.mode == "F":
        raise BadImage("floating-point pixels")
    if image.mode.startswith("I"):
        return _by_strips(image, functools.partial(_upper_bits, shift=_shift(image)))
    if image.has_transparency_data:
        return _by_strips(image, _over_white)
    return image.convert("RGB")


def _by_strips(image: Image.Image, convert: Callable[[Image.Image], Image.Image]) -> Image.Image:
    out = Image.new("RGB", image.size)
    for top, bottom in _strips(image):
        part = image.crop((0, top, image.width, bottom))
        part.info = image.info  # where the transparent colour stands
        out.paste(convert(part), (0, top))
    return out


def _shift(image: Image.Image) -> int:
    """Bits that are dropped: 16-bit pixels keep the upper eight, 32-bit ones of at most 8 bits stay."""
    deep = image.mode != "I" or float(image.getextrema()[1]) > 255  # type: ignore[arg-type]
    return 8 if deep else 0


def _upper_bits(part: Image.Image, shift: int) -> Image.Image:
    values = np.asarray(part)
    return Image.fromarray((values >> shift).clip(0, 255).astype(np.uint8)).convert("RGB")


def _over_white(part: Image.Image) -> Image.Image:
    over = part.convert("RGBA")
    white = Image.new("RGBA", over.size, (255, 255, 255, 255))
    white.alpha_composite(over)
    return white.convert("RGB")


def _probe_other(data: bytes) -> PhotoHeader:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(io.BytesIO(data), formats=formats()) as image:
                width, height = image.size
                _check_limits(image)  # before the EXIF block: that of a PNG may come behind the pixels
                turn = turn_of(image) if _may_be_turned(data) else 1
                _check_limits(image, turn)
    except BadImage:
        raise
    except Image.DecompressionBombError:
        raise BadImage("more pixels than can be decoded safely") from None
    except UnidentifiedImageError:
        raise BadImage(stand_in(data) or "not an image") from None
    except Exception as error:  # a damaged header can raise nearly anything
        cut = "truncated" in str(error).lower()
        raise BadImage("truncated" if cut else "damaged header") from None
    return PhotoHeader(width, height, False) if turn > 4 else PhotoHeader(height, width, False)


def _may_be_turned(data: bytes) -> bool:
    """False where there is surely no EXIF block: Pillow decodes the whole of a PNG to look for one at its end."""
    if data[:8] != _PNG:
        return True
    if data.rfind(b"IEND") < 0:
        raise BadImage("truncated")
    return any(name in data for name in (b"eXIf", b"exif", b"xmp"))


_START_OF_FRAME = frozenset({*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC})
_NO_LENGTH = frozenset({0x01, *range(0xD0, 0xD8)})


def _probe_jpeg(data: bytes) -> PhotoHeader:
    """Walk the segments (ITU-T T.81, annex B) up to the first scan."""
    at, end, frame, exif = 2, len(data), None, list[bytes]()
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
            frame = (marker, *struct.unpack_from(">BHHB", data, at + 4))
        elif marker == 0xE1 and data[at + 4 : at + 10] == b"Exif\0\0":
            exif.append(data[at + 10 : at + 2 + length])
        elif marker == 0xDA:
            break
        elif marker == 0xD9 or length < 2:
            raise BadImage("damaged header")
        at += 2 + length
    if frame is None:
        raise BadImage("damaged header")
    if data.rfind(b"\xff\xd9", at) < 0:
        complete_bytes(data)
    return _jpeg_head(data, frame, exif, b"tiff:Orientation" in data[:at])


def _jpeg_head(data: bytes, frame: tuple[int, ...], exif: list[bytes], in_xmp: bool) -> PhotoHeader:
    """frame: its marker, bits, height, width, components. in_xmp: an orientation that Pillow alone heeds."""
    marker, bits, height, width, components = frame
    mode = {1: "L", 3: "RGB"}.get(components, "CMYK")
    check_size(height, width)
    check_memory(height, width, mode, 2 * components if marker not in (0xC0, 0xC1) else 0)
    turn = 1 if not (exif or in_xmp) else None if in_xmp or len(exif) > 1 else _plain_orientation(exif[0])
    if turn is None:  # told in a way in which decoders may differ: one of them decides for all
        return _probe_other(data)
    check_memory(height, width, mode, turned=turn > 1)
    plain = marker in (0xC0, 0xC1, 0xC2) and bits == 8 and components in (1, 3)
    return PhotoHeader(width, height, plain) if turn > 4 else PhotoHeader(height, width, plain)


def _plain_orientation(tiff: bytes) -> int | None:
    """Tag 0x0112 of the first directory (TIFF 6.0, section 2), 1 where no such tag can be in the block; None unless it
    is there once, as one SHORT from 1 to 8, in a directory that is whole."""
    order = {b"II": "<", b"MM": ">"}.get(tiff[:2])
    if b"\x01\x12" not in tiff and b"\x12\x01" not in tiff:
        return 1
    try:
        if order is None:
            return None
        (start,) = struct.unpack_from(order + "I", tiff, 4)
        (count,) = struct.unpack_from(order + "H", tiff, start)
        entries = [struct.unpack_from(order + "HHIH", tiff, start + 2 + 12 * entry) for entry in range(count)]
    except struct.error:
        return None
    found = [entry[1:] for entry in entries if entry[0] == _ORIENTATION]
    if not found:
        return 1
    kind, times, value = found[0]
    return value if len(found) == 1 and (kind, times) == (3, 1) and 1 <= value <= 8 else None
