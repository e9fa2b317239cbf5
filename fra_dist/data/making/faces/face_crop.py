"""Cuts the crop around a face, in one of two ways.

**box**: the square around the centre of the box whose side is `margin` times the box's longer side. It is moved into
the photo where it fits; what still hangs over is filled with the nearest pixels.

**align**: the similarity transform (rotation, scale, shift) that brings five points closest to a template, by least
squares (Umeyama, 1991). The template is that of 112-pixel face recognition crops, scaled to the size asked for and
shrunk around its centre by `margin` (1: as it is, the face from brows to chin fills the crop).

Places are continuous, as everywhere here: pixel i of a row covers i to i + 1, and its middle is at i + ½. Pillow
counts so too. The template is published for OpenCV, which counts the middle of the first pixel as 0, so half a pixel
is added.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from fra_dist.data.decoding.images import MAX_PIXELS, BadImage
from fra_dist.data.making.faces.annotations import Face, Points

TEMPLATE = (np.array([[38.29, 51.70], [73.53, 51.50], [56.03, 71.74], [41.55, 92.37], [70.73, 92.20]]) + 0.5) / 112
"""Template (5, 2) of eyes, nose and corners of the mouth, x and y as shares of the crop's side from edge to edge."""
_REDUCE = 2.0  # photos that are this much larger than the crop are halved first, so that the warp does not alias


@dataclass(frozen=True)
class FaceCropRule:
    """How crops are cut. It is written into the manifest, for evaluation on crops of the same kind."""

    kind: Literal["box", "align"]
    """`box` or `align`, as the module's docstring describes them."""
    margin: float = 1.3
    """Side of the crop relative to the face's box, or to the template."""
    size: int | None = None
    """Side of the result in pixels; `align` needs it. For `box`, None keeps the photo's pixels; none is enlarged."""


def crop(image: Image.Image, face: Face, rule: FaceCropRule) -> Image.Image:
    """The square crop of a face, RGB or grey like the image.

    Raises BadImage when the face lies outside the photo or has no usable points.
    """
    place = crop_place(face, rule, image.width, image.height)
    return _align(image, place, rule) if rule.kind == "align" else _box(image, place, rule)


def crop_place(face: Face, rule: FaceCropRule, width: int, height: int) -> NDArray[np.float64]:
    """Where the crop of a face lies in its photo of width × height: the transform (2, 3) from shares of the crop's side
    (0, 0 its upper left corner) to pixels of the photo.

    Raises BadImage as `crop` does.
    """
    return _align_place(face, rule, width, height) if rule.kind == "align" else _box_place(face, rule, width, height)


def face_pixels(face: Face) -> float:
    """Longer side of a face in the photo in pixels: of its box, or 2.4 times the distance from eyes to mouth.

    Raises BadImage when neither box nor points are known.
    """
    if face.box is not None:
        return max(face.box[2], face.box[3])
    points = _points(face.points)
    return 2.4 * float(np.linalg.norm(points[:2].mean(axis=0) - points[3:].mean(axis=0)))


def turn(points: Points) -> float:
    """How far a head is turned: 0 is frontal, 0.34 about 45 degrees, negative towards the left of the picture.

    It is the nose's distance from the middle of the eyes, along the line through them, over the distance of the eyes.
    """
    left, right, nose = _points(points)[:3]
    across = right - left
    length = float(np.linalg.norm(across))
    return float((nose - (left + right) / 2) @ across) / max(length * length, 1e-9)


def _box_place(face: Face, rule: FaceCropRule, photo_width: int, photo_height: int) -> NDArray[np.float64]:
    x, y, width, height = face.box if face.box is not None else _box_of(face.points)
    if not (width > 0 and height > 0 and x < photo_width and y < photo_height and x + width > 0 and y + height > 0):
        raise BadImage("the box of the face lies outside the photo")
    side = max(1, round(rule.margin * max(width, height)))
    if side * side > MAX_PIXELS:
        raise BadImage(f"a crop of {side}x{side} pixels, more than {MAX_PIXELS // 1_000_000} million")
    left, top = (round(a + b / 2 - side / 2) for a, b in ((x, width), (y, height)))
    left, top = _moved(left, side, photo_width), _moved(top, side, photo_height)
    return np.array([[side, 0.0, left], [0.0, side, top]])


def _box(image: Image.Image, place: NDArray[np.float64], rule: FaceCropRule) -> Image.Image:
    side, left, top = (int(value) for value in (place[0, 0], place[0, 2], place[1, 2]))
    inside = (max(left, 0), max(top, 0), min(left + side, image.width), min(top + side, image.height))
    cut = image.crop(inside)
    over = (inside[0] - left, left + side - inside[2], inside[1] - top, top + side - inside[3])
    if any(over):
        pixels = np.asarray(cut)
        edges = ((over[2], over[3]), (over[0], over[1]), *[(0, 0)] * (pixels.ndim - 2))
        cut = Image.fromarray(np.pad(pixels, edges, mode="edge"))
    if rule.size is not None and side > rule.size:
        cut = cut.resize((rule.size, rule.size), Image.Resampling.LANCZOS, reducing_gap=3.0)
    return cut


def _moved(start: int, side: int, length: int) -> int:
    """Move a side into the photo as far as it fits; one that is longer is centred on what there is."""
    if side >= length:
        return (length - side) // 2
    return min(max(start, 0), length - side)


def _align_place(face: Face, rule: FaceCropRule, width: int, height: int) -> NDArray[np.float64]:
    place = similarity((TEMPLATE - 0.5) / rule.margin + 0.5, _points(face.points))
    if not np.isfinite(place).all() or crop_side(place) < 1e-6 * (rule.size or 1):
        raise BadImage("the points of the face are all in one place")
    corners = _corners(place)
    if (corners.max(axis=0) <= 0).any() or (corners.min(axis=0) >= (width, height)).any():
        raise BadImage("the points of the face lie outside the photo")
    return place


def crop_side(place: NDArray[np.float64]) -> float:
    """Side of a crop in pixels of its photo, from its place (2, 3) there."""
    return float(np.sqrt(abs(np.linalg.det(place[:, :2]))))


def _corners(place: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.array([[0, 0], [1, 0], [0, 1], [1, 1]]) @ place[:, :2].T + place[:, 2]


def _align(image: Image.Image, place: NDArray[np.float64], rule: FaceCropRule) -> Image.Image:
    assert rule.size is not None
    corners, scale = _corners(place), crop_side(place) / rule.size
    matrix = place / np.array([rule.size, rule.size, 1])  # from pixels of the crop to the photo, as Pillow wants it
    factor = int(scale / _REDUCE) + 1 if scale > _REDUCE else 1
    if factor > 1:
        image = image.reduce(factor)
        matrix = matrix / factor
    # only the part that the crop covers, with the nearest pixels where it hangs over
    low, high = np.floor(corners.min(axis=0) / factor).astype(int) - 2, np.ceil(corners.max(axis=0) / factor) + 2
    columns, rows = (np.arange(low[n], high[n], dtype=np.intp).clip(0, image.size[n] - 1) for n in (0, 1))
    image = Image.fromarray(np.asarray(image)[rows[:, None], columns])
    matrix = matrix - np.array([[0, 0, low[0]], [0, 0, low[1]]])
    return image.transform(
        (rule.size, rule.size), Image.Transform.AFFINE, tuple(matrix.ravel()), Image.Resampling.BICUBIC
    )


def similarity(source: NDArray[np.float64], target: NDArray[np.float64]) -> NDArray[np.float64]:
    """The transform (2, 3) of rotation, scale and shift that brings points (N, 2) closest to others, without mirroring.

    It is the least-squares solution (Umeyama, 1991).
    """
    a, b = source - source.mean(axis=0), target - target.mean(axis=0)
    spread = max(float((a * a).sum()), 1e-12)
    cos = float((a * b).sum()) / spread
    sin = float((a[:, 0] * b[:, 1] - a[:, 1] * b[:, 0]).sum()) / spread
    linear = np.array([[cos, -sin], [sin, cos]])
    return np.column_stack([linear, target.mean(axis=0) - linear @ source.mean(axis=0)])


def _points(points: Points | None) -> NDArray[np.float64]:
    if points is None:
        raise BadImage("no points of the face are known")
    return np.array(points, np.float64).reshape(5, 2)


def _box_of(points: Points | None) -> tuple[float, float, float, float]:
    """A box around the face of five points: from above the brows to the chin."""
    places = _points(points)
    eyes, mouth = places[:2].mean(axis=0), places[3:].mean(axis=0)
    side = face_pixels(Face(None, points))
    centre = (eyes + mouth) / 2
    return float(centre[0] - side / 2), float(centre[1] - side / 2), side, side
