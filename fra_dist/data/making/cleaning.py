"""Turns one photo as it comes into one clean JPEG: upright, 8 bits, RGB or grey, decodable to its last line.

A JPEG that has all these properties is kept byte for byte. Anything else that Pillow reads (rotated by EXIF, CMYK, 16
bits, palette, transparent, PNG, WebP, TIFF, ...; the first frame of an animation) is decoded and encoded again, without
its metadata. Transparent parts become white. Colour profiles are not applied.
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
    PhotoHeader,
    check_agreement,
    complete_bytes,
    formats,
    heif_can_be_read,
    pixel_array,
    probe,
    to_rgb,
    turn_of,
    upright,
)
from fra_dist.data.making.faces.annotations import Box, Face
from fra_dist.data.making.faces.crop_facts import CropFacts, crop_facts
from fra_dist.data.making.faces.detectors import find_face
from fra_dist.data.making.faces.face_crop import FaceCropRule, crop, face_pixels
from fra_dist.data.making.faces.quality import QualityRule, check_face, check_pixels, perceptual_hash
from fra_dist.data.shards.index import CHECKED, DECODED, GREY, OPEN, PLAIN
from fra_dist.data.shards.pixel_statistics import Moments, pixel_moments

_HEIC = (b"ftypheic", b"ftypheix", b"ftyphevc", b"ftypheim")
_GREY_MODES = ("1", "L", "I", "F")


@dataclass(frozen=True)
class PhotoRules:
    """What is done to photos on their way into shards."""

    size: int | None = None
    """Most pixels of the side that `side` names, None for any; larger photos are scaled down, none is scaled up."""
    side: Literal["shorter", "longer"] = "shorter"
    """The side of a photo that `size` limits."""
    quality: int = 92
    """Quality of the JPEGs that are encoded again, 1 to 100; chroma is not subsampled."""
    min_side: int = 16
    """Photos whose shorter side has fewer pixels than this, after scaling, are left out."""
    crop: FaceCropRule | None = None
    """How the face is cut out; None keeps the whole photo."""
    detector: str | None = None
    """Name of the detector that finds faces where no file names them, as in `faces.detectors`."""
    bounds: QualityRule = field(default_factory=QualityRule)
    """Bounds of quality; photos outside them are left out."""


class CleanPhoto(NamedTuple):
    """A clean JPEG, with what the index and the statistics need."""

    jpeg: bytes
    """Bytes of the JPEG."""
    height: int
    """Height in pixels."""
    width: int
    """Width in pixels."""
    flags: int
    """Sum of the flags in `shards.index` that hold for the JPEG."""
    kept: bool
    """Whether these are the bytes that came in (with an end mark, if that was missing), not a new encoding."""
    moments: Moments
    """Pixel statistics, as in `pixel_statistics`."""
    crop: CropFacts | None = None
    """Where a face was cut out, how the crop lies in its photo."""


class _Final(NamedTuple):
    """A photo decoded, cut and scaled; kept: its bytes, where nothing was done to it, so that they can stay. pixels:
    before scaling. whole: the photo that a face was cut from, crop: how the crop lies in it."""

    image: Image.Image
    kept: bytes | None
    pixels: int
    whole: Image.Image | None = None
    crop: CropFacts | None = None


def clean_photo(data: bytes, rules: PhotoRules, face: Face | None = None) -> CleanPhoto:
    """Turn an encoded photo into a clean JPEG. face: where the face is, if a file says so.

    Raises BadImage, with a reason in a few words, for data that is no photo, not whole, too small, too large, or
    outside `rules.bounds`.
    """
    final = _finish(data, rules, face)
    image = final.image
    flags = DECODED | PLAIN | (GREY if image.mode == "L" else 0)
    jpeg = final.kept or encode_jpeg(image, rules.quality)
    numbers = pixel_moments(pixel_array(image))
    return CleanPhoto(jpeg, image.height, image.width, flags, final.kept is not None, numbers, final.crop)


class Hashed(NamedTuple):
    """Hashes of a photo, by which near-copies are found."""

    hash: str
    """Perceptual hash, in hexadecimal, of the picture that `clean_photo` gives."""
    pixels: int
    """Number of pixels of that picture before it was scaled."""
    whole: str = ""
    """Where a face was cut out, the perceptual hash of the whole photo; else empty."""


def hash_photo(data: bytes, rules: PhotoRules, face: Face | None = None) -> Hashed:
    """The hashes of an encoded photo; arguments and errors are those of `clean_photo`."""
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
    data = complete_bytes(data)
    with _quiet(), _translated(), Image.open(io.BytesIO(data), formats=formats()) as image:
        turn = turn_of(image)
        full_width, full_height = image.size[::-1] if turn > 4 else image.size
        height, width = _scaled(full_height, full_width, rules)
        if min(height, width) < rules.min_side:
            raise BadImage(f"{full_width}x{full_height} pixels, too small: the shorter side needs {rules.min_side}")
        scaled, box = (height, width) != (full_height, full_width), None
        if scaled:  # a JPEG decoder can halve the picture while it decodes
            half = image.draft(None, (2 * height, 2 * width) if turn > 4 else (2 * width, 2 * height))
            box = _turned(half[1], image.size, turn) if half else None  # its last pixel may be one in part only
        image.load()
        if head.plain and turn == 1 and image.mode in ("L", "RGB") and not scaled:
            return _Final(image.copy(), data, height * width)
        grey = _is_grey(image)
        seen = to_rgb(upright(image, turn))
        if scaled:
            seen = seen.resize((width, height), Image.Resampling.LANCZOS, box, reducing_gap=3.0)
    return _Final(seen.getchannel(0) if grey else seen, None, full_height * full_width)


def _face(data: bytes, rules: PhotoRules, rule: FaceCropRule, face: Face | None) -> _Final:
    _, seen, grey = _decoded(data)
    if face is None:
        if rules.detector is None:
            raise BadImage("no face is named for it")
        face = find_face(pixel_array(seen), rules.detector)
        if face is None:
            raise BadImage("no face found")
    with _translated():  # whatever numbers a file or a detector gives
        check_face(face, rules.bounds)
        cut, facts = crop(seen, face, rule), crop_facts(face, rule, seen.width, seen.height)
    if min(cut.size) < rules.min_side:
        raise BadImage(f"a face of {cut.width}x{cut.height} pixels, too small: it needs {rules.min_side}")
    side = rule.margin * face_pixels(face)
    return _Final(cut.getchannel(0) if grey else cut, None, int(side * side), seen, facts)


def _decoded(data: bytes) -> tuple[PhotoHeader, Image.Image, bool]:
    """(what the header says, the whole photo, upright, in RGB, whether it is grey). Raises BadImage."""
    head = probe(data)
    with _quiet(), _translated(), Image.open(io.BytesIO(complete_bytes(data)), formats=formats()) as image:
        turn = turn_of(image)
        image.load()
        return head, to_rgb(upright(image, turn)), _is_grey(image)


def look(data: bytes) -> tuple[int, int, int]:
    """(height, width, index flags) of an encoded photo, upright, without decoding it.

    Raises BadImage as far as damage shows without decoding.
    """
    head = probe(data)
    flags = (PLAIN if head.plain else 0) | CHECKED | (OPEN if complete_bytes(data) is not data else 0)
    with _quiet(), _translated(), Image.open(io.BytesIO(data), formats=formats()) as image:
        return head.height, head.width, flags | (GREY if _is_grey(image) else 0)


def decode_verified(data: bytes) -> NDArray[np.uint8]:
    """Decode an encoded photo completely: pixels (H, W) of a grey one, (H, W, 3) of any other, uint8.

    Raises BadImage when it is not whole, or when its header gives another size, by which views would be drawn.
    """
    head, seen, grey = _decoded(data)
    check_agreement(head, seen.height, seen.width)
    return pixel_array(seen.getchannel(0) if grey else seen)


def encode_jpeg(image: Image.Image, quality: int) -> bytes:
    """A picture as JPEG. The same picture gives the same bytes with the same version of Pillow's JPEG library."""
    out = io.BytesIO()
    image.save(out, "JPEG", quality=quality, subsampling=0)
    return out.getvalue()


def _scaled(height: int, width: int, rules: PhotoRules) -> tuple[int, int]:
    side = (min if rules.side == "shorter" else max)(height, width)
    if rules.size is None or side <= rules.size:
        return height, width
    return max(1, round(height * rules.size / side)), max(1, round(width * rules.size / side))


def _turned(box: Box, size: tuple[int, int], turn: int) -> Box:
    """Where the box of a whole photo, from 0, 0, lies when the picture of `size` that holds it is made upright.

    turn: as EXIF numbers orientations.
    """
    (width, height), (_, _, right, bottom) = size, box
    x0, x1 = (width - right, float(width)) if turn in (2, 3, 7, 8) else (0.0, right)
    y0, y1 = (height - bottom, float(height)) if turn in (3, 4, 6, 7) else (0.0, bottom)
    return (y0, x0, y1, x1) if turn > 4 else (x0, y0, x1, y1)


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
