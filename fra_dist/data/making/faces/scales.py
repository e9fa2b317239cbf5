"""Looks for faces on copies of a photo, from small to large, because a detector is right for faces of some sizes only.

A network sees faces up to the size of its receptive field whole. Of a larger one it gives points that shrink towards
the middle, at a high score: nothing but the size of the copy keeps it from that. So the first copy is small, and a
finer one, twice as large, is looked at only while no face is large enough on the last one that every face half as
large (which may count too, see `detectors.choose_face`) would have been found beside it.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from fra_dist.data.making.faces.annotations import Box, Face

FIRST = 256
"""Longer side of the first copy in pixels; a smaller photo is looked at as it is."""
LAST = 2048
"""Longer side of the largest copy in pixels. Faces shorter than about a hundredth of it are not found."""
ENLARGED = 512
"""Longer side up to which a small photo is enlarged, at most twice."""
SURE = 64
"""Length of a face on a copy in pixels from which on no finer copy is needed."""
BEST = 110
"""Length of a face on a copy in pixels at which points are most exact."""
_LARGEST = 4 * SURE  # on a finer copy; a true face of that size would have been found on the one before
_TRUSTED, _SAME = 0.5, 0.3  # least score of a face that ends the search; overlap of two sightings of one face
_MULTIPLE = 32

Look = Callable[[NDArray[np.uint8]], list[Face]]
"""A detector on one copy: RGB pixels (H, W, 3), H and W multiples of 32, to faces with boxes in pixels of the copy."""


@dataclass(frozen=True)
class _Sighting:
    face: Face  # in pixels of the photo
    size: float  # longer side of its box, in pixels of the copy it was seen on

    @property
    def box(self) -> Box:
        assert self.face.box is not None
        return self.face.box


def over_scales(look: Look, pixels: NDArray[np.uint8]) -> list[Face]:
    """Faces of a photo (H, W, 3), in its pixels, found by `look` on copies of it; each face once."""
    height, width = pixels.shape[:2]
    image, found = Image.fromarray(pixels), list[_Sighting]()
    for number, side in enumerate(sides(max(height, width))):
        scale = side / max(height, width)
        size = max(1, round(width * scale)), max(1, round(height * scale))
        across, down = width / size[0], height / size[1]
        for face in look(_copy(image, size)):
            assert face.box is not None
            sighting = _Sighting(_moved(face, across, down), max(face.box[2], face.box[3]))
            if number == 0 or sighting.size <= _LARGEST:
                _add(found, sighting)
        longest = max((max(s.box[2:]) for s in found if s.face.score >= _TRUSTED), default=0.0)
        if longest * scale >= SURE:
            break
    return [sighting.face for sighting in found]


def sides(longer: int) -> Iterator[int]:
    """Longer sides of the copies of a photo whose longer side has `longer` pixels, in order."""
    side, last = min(FIRST, longer), min(LAST, max(longer, min(2 * longer, ENLARGED)))
    while side < last:
        yield side
        side *= 2
    yield last


def _copy(image: Image.Image, size: tuple[int, int]) -> NDArray[np.uint8]:
    """The photo at a size (width, height), its last row and column repeated up to a multiple of 32."""
    if size != image.size:
        image = image.resize(size, Image.Resampling.BILINEAR, reducing_gap=3.0)
    over = [-length % _MULTIPLE for length in size]
    return np.pad(np.asarray(image), ((0, over[1]), (0, over[0]), (0, 0)), "edge")


def _moved(face: Face, across: float, down: float) -> Face:
    """The face with its columns times `across` and its rows times `down`."""
    assert face.box is not None
    x, y, width, height = face.box
    points = face.points and tuple(value * (down if n % 2 else across) for n, value in enumerate(face.points))
    return Face((x * across, y * down, width * across, height * down), points, face.score)


def _add(found: list[_Sighting], new: _Sighting) -> None:
    """Add a sighting; of two of one face the one stays whose size on its copy is nearest to the best."""
    for n, old in enumerate(found):
        if _overlap(old.box, new.box) > _SAME:
            found[n] = min(old, new, key=lambda one: abs(math.log(max(one.size, 1.0) / BEST)))
            return
    found.append(new)


def _overlap(a: Box, b: Box) -> float:
    """Intersection over union of two boxes."""
    width = min(a[0] + a[2], b[0] + b[2]) - max(a[0], b[0])
    height = min(a[1] + a[3], b[1] + b[3]) - max(a[1], b[1])
    shared = max(width, 0.0) * max(height, 0.0)
    return shared / max(a[2] * a[3] + b[2] * b[3] - shared, 1e-9)
