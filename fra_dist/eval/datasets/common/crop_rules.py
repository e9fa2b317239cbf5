"""Crop rules, from photo to face: the square that every task cuts out, by a rule that a data set's reader names.

    side   = scale · the longer side of the box, or of the landmarks' extent, or of the fixed square
    centre = its middle, moved down by `down` · side (negative: up)

The square is cut at fractions of a pixel and scaled with an area-averaging filter; where it leaves the photo, the
photo's edge is repeated. Pixel i of a row covers i to i + 1. Landmarks become shares of the square's side from edge
to edge. The rule is written into every result.
"""

import math
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

IGNORE = 255
"""Mask value of pixels that do not count, such as those outside the photo."""
SMALLEST = 8.0
"""Side of a square in pixels below which a photo is taken to show no face."""


@dataclass(frozen=True)
class CropRule:
    """How a data set's faces are cut from its photos, by this module's formula; a constant of the data set's reader."""

    source: Literal["middle", "fixed", "box", "points"]
    """What the square is made from: the largest middle square of the photo, one place in all photos, the data set's
    box, or the landmarks' extent."""
    scale: float = 1.0
    """Side of the square over the longer side of what it is made from."""
    down: float = 0.0
    """How far the square is moved down, as a share of its side; negative moves it up."""
    fixed: tuple[float, float, float] | None = None
    """Centre x, y and side in pixels, for the source `fixed`; None otherwise."""

    def to_json(self) -> dict[str, Any]:
        """The crop rule as {setting: plain value}, without those that are None, for a file of results."""
        return {key: value for key, value in asdict(self).items() if value is not None}


@dataclass(frozen=True)
class Square:
    """A square in a photo, in pixels and fractions of them."""

    x: float
    """Left edge of the square."""
    y: float
    """Upper edge of the square."""
    side: float
    """Side of the square."""


class NoFace(ValueError):
    """Raised when the labels leave no square to cut; the message says why."""


def square_of(
    rule: CropRule,
    height: int,
    width: int,
    points: NDArray[np.float64] | None = None,
    box: tuple[float, float, float, float] | None = None,
) -> Square:
    """The square to cut from a photo of height × width.

    Raises NoFace for a box or landmarks that are missing or degenerate.
    """
    if rule.source == "middle":
        extent = _middle(height, width)
    elif rule.source == "fixed":
        assert rule.fixed is not None
        x, y, side = rule.fixed
        extent = (x - side / 2, y - side / 2, x + side / 2, y + side / 2)
    elif rule.source == "box":
        if box is None:
            raise NoFace("it has no box")
        extent = box
    else:
        if points is None:
            raise NoFace("it has no landmarks")
        low, high = points.min(0), points.max(0)
        extent = (float(low[0]), float(low[1]), float(high[0]), float(high[1]))
    x0, y0, x1, y1 = extent
    side = rule.scale * max(x1 - x0, y1 - y0)
    if not math.isfinite(side) or side < SMALLEST:
        raise NoFace(f"its face measures {x1 - x0:.1f} by {y1 - y0:.1f} pixels")
    x, y = (x0 + x1) / 2, (y0 + y1) / 2 + rule.down * side
    square = Square(x - side / 2, y - side / 2, side)
    if not (-side < square.x < width and -side < square.y < height):
        raise NoFace(f"its face lies outside the photo of {width} by {height} pixels")
    return square


def cut_photo(photo: NDArray[np.uint8], square: Square, size: int) -> NDArray[np.uint8]:
    """The square of a photo, scaled: (H, W, 3) -> (size, size, 3)."""
    height, width = photo.shape[:2]
    left, top = max(0, math.ceil(-square.x)), max(0, math.ceil(-square.y))
    right = max(0, math.ceil(square.x + square.side - width))
    bottom = max(0, math.ceil(square.y + square.side - height))
    if left or top or right or bottom:
        photo = np.pad(photo, ((top, bottom), (left, right), (0, 0)), mode="edge")
    x, y = square.x + left, square.y + top
    place = (x, y, x + square.side, y + square.side)
    return np.asarray(Image.fromarray(photo).resize((size, size), Image.Resampling.BILINEAR, box=place))


def cut_mask(mask: NDArray[np.uint8], square: Square, photo_size: tuple[int, int], size: int) -> NDArray[np.uint8]:
    """The square of a mask, scaled: (h, w) class numbers -> (size, size), IGNORE outside the photo.

    photo_size: height and width of the photo that the square refers to; the mask may have another size.
    """
    out = np.full((size, size), IGNORE, np.uint8)
    steps = (np.arange(size) + 0.5) / size * square.side
    rows = np.floor((square.y + steps) * mask.shape[0] / photo_size[0]).astype(np.int64)
    columns = np.floor((square.x + steps) * mask.shape[1] / photo_size[1]).astype(np.int64)
    inside_rows, inside_columns = (rows >= 0) & (rows < mask.shape[0]), (columns >= 0) & (columns < mask.shape[1])
    out[np.ix_(inside_rows, inside_columns)] = mask[np.ix_(rows[inside_rows], columns[inside_columns])]
    return out


def cut_points(points: NDArray[np.float64], square: Square) -> NDArray[np.float64]:
    """Landmarks as shares of the square's side, from pixels of the photo; (..., 2) -> (..., 2)."""
    return (points - np.array([square.x, square.y])) / square.side


def _middle(height: int, width: int) -> tuple[float, float, float, float]:
    side = min(height, width)
    left, top = (width - side) // 2, (height - side) // 2
    return (float(left), float(top), float(left + side), float(top + side))
