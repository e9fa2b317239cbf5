"""Landmark schemes: which points normalise an error, and which outline a part of the face.

Points are counted from 0. A scheme whose data set gives no pupils takes the mean of an eye's points, as 300W does.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from fra_dist.eval.datasets.common.crop_rules import IGNORE

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Scheme:
    """One landmark scheme: how many points it has and which of them mark eyes, outline and parts of the face.

    Points are numbered from 0.
    """

    count: int
    """How many points the scheme has."""
    corners: tuple[int, int] | None = None
    """The points at the outer eye corners."""
    pupils: tuple[tuple[int, ...], tuple[int, ...]] | None = None
    """For each eye, the points whose mean is its pupil."""
    outline: tuple[int, ...] = ()
    """Points along the jaw and over the brows whose hull is the face."""
    parts: Mapping[str, tuple[tuple[int, ...], ...]] = field(default_factory=dict)
    """Closed polygons of each part; a brow of one row of points is drawn as a thick line."""


def _run(first: int, last: int) -> tuple[int, ...]:
    return tuple(range(first, last + 1))


SCHEMES: dict[str, Scheme] = {
    "ibug68": Scheme(
        68,
        (36, 45),
        (_run(36, 41), _run(42, 47)),
        _run(0, 26),
        {
            "brows": (_run(17, 21), _run(22, 26)),
            "nose": ((27, *_run(31, 35)),),
            "eyes": (_run(36, 41), _run(42, 47)),
            "mouth": (_run(48, 59),),
        },
    ),
    "inner49": Scheme(
        49,
        (19, 28),
        (_run(19, 24), _run(25, 30)),
        (),
        {
            "brows": (_run(0, 4), _run(5, 9)),
            "nose": ((10, *_run(14, 18)),),
            "eyes": (_run(19, 24), _run(25, 30)),
            "mouth": (_run(31, 42),),
        },
    ),
    "wflw98": Scheme(
        98,
        (60, 72),
        ((96,), (97,)),
        _run(0, 50),
        {
            "brows": (_run(33, 41), _run(42, 50)),
            "nose": ((51, *_run(55, 59)),),
            "eyes": (_run(60, 67), _run(68, 75)),
            "mouth": (_run(76, 87),),
        },
    ),
    "lapa106": Scheme(
        106,
        (66, 79),
        ((104,), (105,)),
        _run(0, 50),
        {
            "brows": (_run(33, 41), _run(42, 50)),
            "nose": ((51, *_run(55, 65)),),
            "eyes": (_run(66, 73), _run(75, 82)),
            "mouth": (_run(84, 95),),
        },
    ),
    "aflw19": Scheme(19, (6, 11), ((7,), (10,))),
    "celeba5": Scheme(5, None, ((0,), (1,))),
}
POLYGON_CLASSES = ("skin", "brows", "eyes", "nose", "mouth")
"""Classes of masks that are drawn from landmarks.

Outside the outline of the face nothing is known, so nothing counts.
"""


def inter_ocular(points: Floats, scheme: Scheme) -> Floats | None:
    """Distance of the outer eye corners, (N,) from points (N, P, 2); None for a scheme without them."""
    if scheme.corners is None:
        return None
    left, right = scheme.corners
    return np.linalg.norm(points[:, left] - points[:, right], axis=-1)


def inter_pupil(points: Floats, scheme: Scheme) -> Floats | None:
    """Distance of the pupils, (N,) from points (N, P, 2); None for a scheme without them."""
    if scheme.pupils is None:
        return None
    left, right = (points[:, list(some)].mean(1) for some in scheme.pupils)
    return np.linalg.norm(left - right, axis=-1)


def diagonal(points: Floats) -> Floats:
    """Diagonal of the smallest upright box around the points: (N, P, 2) -> (N,)."""
    return np.linalg.norm(points.max(1) - points.min(1), axis=-1)


def mirror_order(points: Floats) -> NDArray[np.int64]:
    """(P,) the point that each point becomes in a mirrored photo, found from shapes (N, P, 2).

    The mean shape is mirrored about its own middle and matched to itself (Hungarian method), so that every scheme has
    an order without a table of its own. Needs shapes that face the camera on average.
    """
    from scipy.optimize import linear_sum_assignment

    centred = points - points.mean(1, keepdims=True)
    shape = (centred / np.maximum(np.linalg.norm(centred, axis=(1, 2), keepdims=True), 1e-12)).mean(0)
    mirrored = shape * np.array([-1.0, 1.0])
    distance = np.linalg.norm(mirrored[:, None] - shape[None], axis=-1)
    distance = distance + distance.T  # a pair is a pair from both sides
    order = linear_sum_assignment(distance)[1].astype(np.int64)
    if (order[order] != np.arange(len(order))).any():  # a chain of three or more: fall back on the closest partners
        order = np.where(order[order] == np.arange(len(order)), order, np.arange(len(order)))
    return order


def draw_polygons(points: Floats, scheme: Scheme, size: int) -> NDArray[np.uint8]:
    """A mask (size, size) of POLYGON_CLASSES from points (P, 2), as shares of a square's side;
    IGNORE outside the face."""
    places = points * size  # Pillow cuts them to whole numbers, which are the pixels that hold the points
    canvas = Image.new("L", (size, size), IGNORE)
    pen = ImageDraw.Draw(canvas)
    face = list(scheme.outline) or list(range(scheme.count))
    pen.polygon(_hull(places[face]), fill=POLYGON_CLASSES.index("skin"))
    for number, name in enumerate(POLYGON_CLASSES):
        for polygon in scheme.parts.get(name, ()):
            corners = [(float(x), float(y)) for x, y in places[list(polygon)]]
            if name == "brows" and len(polygon) <= 5:
                pen.line(corners, fill=number, width=max(1, round(size / 32)))
            else:
                pen.polygon(corners, fill=number)
    return np.asarray(canvas)


def _hull(places: Floats) -> list[tuple[float, float]]:
    from scipy.spatial import ConvexHull, QhullError

    try:
        corners = places[ConvexHull(places).vertices]
    except (QhullError, ValueError):  # all on one line
        corners = places
    return [(float(x), float(y)) for x, y in corners]
