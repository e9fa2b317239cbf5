"""One photo as it comes, to one clean JPEG: upright, 8 bits, RGB or grey, decodable to its last line.

A JPEG that is all that already is kept byte for byte. Anything else that Pillow reads (rotated by EXIF, CMYK, 16 bits,
palette, transparent, PNG, WebP, TIFF, ...; the first frame of an animation) is decoded and encoded anew, without its
metadata. Transparent parts become white. Colour profiles are not applied.
"""

import io
import warnings
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from fra_dist.data.decoding.images import (
    BadImage,
    Head,
    check_agreement,
    formats,
    heif_can_be_read,
    pixels_of,
    probe,
    to_rgb,
    turn_of,
    upright,
    whole,
)
from fra_dist.data.making.faces.annotations import Face
from fra_dist.data.making.faces.detectors import find_face
from fra_dist.data.making.faces.face_crop import CropRule, crop, face_pixels
from fra_dist.data.making.faces.quality import QualityRule, check_face, check_pixels, perceptual_hash
from fra_dist.data.shards.index import CHECKED, DECODED, GREY, OPEN, PLAIN
from fra_dist.data.shards.pixel_statistics import Moments, moments

_HEIC = (b"ftypheic", b"ftypheix", b"ftyphevc", b"ftypheim")
_GREY_MODES = ("1", "L", "I", "F")


@dataclass(frozen=True)
class PhotoRules:
    """What is done to photos on their way into shards."""

    size: int | None = None
    """Largest length of the side that `side` names, in pixels; larger photos are scaled down, none is scaled up."""
    side: Literal["shorter", "longer"] = "shorter"
    quality: int = 92
    """Of the JPEGs that are encoded anew; chroma is not subsampled."""
    min_side: int = 16
    """Photos whose shorter side has fewer pixels, after scaling, are left out."""
    crop: CropRule | None = None
    """Cut the face out; None: the whole photo."""
    detector: str | None = None
    """Finds faces that no file names; see `preparation/detectors.py`."""
    bounds: QualityRule = field(default_factory=QualityRule)


class CleanPhoto(NamedTuple):
    """A JPEG, its size in pixels, index flags, whether it is the one that came in (with an end mark, if that was
    missing), and pixel statistics."""

    jpeg: bytes
    height: int
    width: int
    flags: int
    kept: bool
    moments: Moments


class _Final(NamedTuple):
    """A photo decoded, cut and scaled; kept: its bytes, where nothing was done to it, so that they can stay. pixels:
    before scaling. whole: the photo that a face was cut from."""

    image: Image.Image
    kept: bytes | None
    pixels: int
    whole: Image.Image | None = None


def clean_photo(data: bytes, rules: PhotoRules, face: Face | None = None) -> CleanPhoto:
    """Raises BadImage, with a reason of a few words, for what is no photo, not whole, too small, too large, or out of
    `rules.bounds`. face: where it is, if a file says so."""
    final = _finish(data, rules, face)
    image = final.image
    flags = DECODED | PLAIN | (GREY if image.mode == "L" else 0)
    jpeg = final.kept or encode_jpeg(image, rules.quality)
    return CleanPhoto(jpeg, image.height, image.width, flags, final.kept is not None, moments(pixels_of(image)))


class Hashed(NamedTuple):
    """What near-copies are found by: the perceptual hash of what `clean_photo` gives, in hexadecimal, the pixels of
    that before scaling, and where a face was cut out, the hash of the whole photo."""

    hash: str
    pixels: int
    whole: str = ""


def hash_photo(data: bytes, rules: PhotoRules, face: Face | None = None) -> Hashed:
    """Raises BadImage as `clean_photo` does."""
    final = _finish(data, rules, face)
    around = "" if final.whole is None else perceptual_hash(final.whole).hex()
    return Hashed(perceptual_hash(final.image).hex(), final.pixels, around)


def _finish(data: bytes, rules: PhotoRules, face: Face | None) -> _Final:
    if data[4:12] in _HEIC and not heif_can_be_read():
        raise BadImage("HEIC, which cannot be read: pip install fra-dist[heic], or convert it to JPEG")
    final = _whole(data, rules) if rules.crop is None else _face(data, rules, rules.crop, face)
    check_pixels(final.image, rules.bounds)
    return final


def _whole(data: bytes, rules: PhotoRules) -> _Final:
    head = probe(data)
    data = whole(data)
    with _quiet(), _translated(), Image.open(io.BytesIO(data), formats=formats()) as image:
        turn = turn_of(image)
        full_width, full_height = image.size[::-1] if turn > 4 else image.size
        height, width = _scaled(full_height, full_width, rules)
        if min(height, width) < rules.min_side:
            raise BadImage(f"{full_width}x{full_height} pixels, too small: the shorter side needs {rules.min_side}")
        scaled = (height, width) != (full_height, full_width)
        if scaled:  # a JPEG decoder can halve the picture while it decodes
            image.draft(None, (2 * height, 2 * width) if turn > 4 else (2 * width, 2 * height))
        image.load()
        if head.plain and turn == 1 and image.mode in ("L", "RGB") and not scaled:
            return _Final(image.copy(), data, height * width)
        grey = _is_grey(image)
        seen = to_rgb(upright(image, turn))
        if scaled:
            seen = seen.resize((width, height), Image.Resampling.LANCZOS, reducing_gap=3.0)
    return _Final(seen.getchannel(0) if grey else seen, None, full_height * full_width)


def _face(data: bytes, rules: PhotoRules, rule: CropRule, face: Face | None) -> _Final:
    _, seen, grey = _decoded(data)
    if face is None:
        if rules.detector is None:
            raise BadImage("no face is named for it")
        face = find_face(pixels_of(seen), rules.detector)
        if face is None:
            raise BadImage("no face found")
    with _translated():  # whatever numbers a file or a detector gives
        check_face(face, rules.bounds)
        cut = crop(seen, face, rule)
    if min(cut.size) < rules.min_side:
        raise BadImage(f"a face of {cut.width}x{cut.height} pixels, too small: it needs {rules.min_side}")
    side = rule.margin * face_pixels(face)
    return _Final(cut.getchannel(0) if grey else cut, None, int(side * side), seen)


def _decoded(data: bytes) -> tuple[Head, Image.Image, bool]:
    """(what the header says, the whole photo, upright, in RGB, whether it is grey). Raises BadImage."""
    head = probe(data)
    with _quiet(), _translated(), Image.open(io.BytesIO(whole(data)), formats=formats()) as image:
        turn = turn_of(image)
        image.load()
        return head, to_rgb(upright(image, turn)), _is_grey(image)


def look(data: bytes) -> tuple[int, int, int]:
    """(upright height, width, index flags) without decoding. Raises BadImage as far as that tells."""
    head = probe(data)
    flags = (PLAIN if head.plain else 0) | CHECKED | (OPEN if whole(data) is not data else 0)
    with _quiet(), _translated(), Image.open(io.BytesIO(data), formats=formats()) as image:
        return head.height, head.width, flags | (GREY if _is_grey(image) else 0)


def verify(data: bytes) -> NDArray[np.uint8]:
    """Decode an encoded image completely: pixels (H, W) of a grey one or (H, W, 3).

    Raises BadImage when it is not whole, or its header tells another size, which views would be drawn by.
    """
    head, seen, grey = _decoded(data)
    check_agreement(head, seen.height, seen.width)
    return pixels_of(seen.getchannel(0) if grey else seen)


def encode_jpeg(image: Image.Image, quality: int) -> bytes:
    """The same picture gives the same bytes with the same version of Pillow's JPEG library."""
    out = io.BytesIO()
    image.save(out, "JPEG", quality=quality, subsampling=0)
    return out.getvalue()


def _scaled(height: int, width: int, rules: PhotoRules) -> tuple[int, int]:
    side = (min if rules.side == "shorter" else max)(height, width)
    if rules.size is None or side <= rules.size:
        return height, width
    return max(1, round(height * rules.size / side)), max(1, round(width * rules.size / side))


def _is_grey(image: Image.Image) -> bool:
    return image.mode in _GREY_MODES or image.mode.startswith("I;")


class _quiet(warnings.catch_warnings):
    """Odd EXIF blocks and palettes make Pillow talk."""

    def __enter__(self) -> None:  # type: ignore[override]
        super().__enter__()
        warnings.simplefilter("ignore")


class _translated:
    """A damaged file can raise nearly anything inside a decoder: make it BadImage."""

    def __enter__(self) -> None: ...

    def __exit__(self, _: object, error: BaseException | None, __: object) -> None:
        if isinstance(error, MemoryError):
            raise BadImage("too large to decode") from None
        if isinstance(error, Exception) and not isinstance(error, BadImage):
            words = " ".join(str(error).split())[:120] or type(error).__name__
            raise BadImage("truncated" if "truncated" in words.lower() else words) from None
