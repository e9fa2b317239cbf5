"""Photos as they come: good ones in every format, and the ways in which they go wrong."""

import io
import struct
import zlib
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image


def pixels(height: int = 40, width: int = 30) -> NDArray[np.uint8]:
    """A smooth picture, different in every corner, (H, W, 3)."""
    y, x = np.mgrid[:height, :width]
    return np.stack([x * 255 // width, y * 255 // height, 255 - (x + y) * 255 // (width + height)], -1).astype(np.uint8)


def picture(height: int = 40, width: int = 30) -> Image.Image:
    return Image.fromarray(pixels(height, width))


def saved(image: Image.Image, kind: str = "JPEG", **options: Any) -> bytes:
    out = io.BytesIO()
    image.save(out, kind, **({"quality": 95, "subsampling": 0} if kind == "JPEG" else {}) | options)
    return out.getvalue()


def turned(orientation: int, height: int = 40, width: int = 30) -> bytes:
    """A JPEG with the pixels of `picture`, to be shown turned."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    return saved(picture(height, width), exif=exif)


def opened(data: bytes) -> NDArray[np.uint8]:
    """As a plain decoder sees it: no rotation."""
    with Image.open(io.BytesIO(data)) as image:
        return np.asarray(image)


def png(width: int, height: int, bits: int, colour: int, raw: bytes) -> bytes:
    """A PNG written by hand, whatever its header claims."""

    def chunk(name: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))

    head = struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(raw)) + chunk(b"IEND", b"")


def png16(image: NDArray[np.uint8]) -> bytes:
    """RGB (H, W, 3) as a PNG of 16 bits a channel."""
    rows = b"".join(b"\0" + (row.astype(">u2") * 257).tobytes() for row in image)
    return png(image.shape[1], image.shape[0], 16, 2, rows)


def garbled_png() -> bytes:
    """Its header and its checksums are sound; only a decoder finds that its pixels are not."""
    data = bytearray(png(30, 40, 8, 2, b"".join(b"\0" + bytes(x * y % 251 for x in range(90)) for y in range(40))))
    at = data.index(b"IDAT")
    end = at + 4 + int.from_bytes(data[at - 4 : at], "big")
    data[at + 4 : end] = b"\xff" * (end - at - 4)
    data[end : end + 4] = zlib.crc32(data[at:end]).to_bytes(4, "big")
    return bytes(data)


def bad_photos() -> dict[str, tuple[bytes, str]]:
    """Name -> (bytes, a word of the reason for which it is left out)."""
    good = saved(picture())
    as_png = saved(picture(), "PNG")
    return {
        "zero.jpg": (b"", "empty"),
        "text.jpg": (b"I am no photo at all\n" * 20, "not an image"),
        "cut.jpg": (good[: len(good) // 2], "truncated"),
        "cut_last_blocks.jpg": (good[:-12], "truncated"),
        "cut_and_closed.jpg": (good[: len(good) // 2] + b"\xff\xd9", "truncated"),
        "cut_in_header.jpg": (good[:100], "truncated"),
        "flipped.png": (as_png[:90] + bytes([as_png[90] ^ 4]) + as_png[91:], "checksum"),
        "cut.png": (as_png[: len(as_png) // 2], "truncated"),
        "one.jpg": (saved(picture(1, 1)), "1x1"),
        "thin.png": (saved(picture(8, 400), "PNG"), "too small"),
        "bomb.png": (png(50_000, 50_000, 8, 2, bytes(1000)), "pixels"),
        "huge.png": (png(9_000, 9_000, 8, 2, bytes(1000)), "pixels"),
        "phone.heic": (b"\0\0\0\x18ftypheic" + bytes(100), "not an image"),
    }
