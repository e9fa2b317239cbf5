"""What is odd about a crop: points that no face has, edges that were made up. Crops are counted for it, not left out.

Five points of a face (eyes, nose, corners of the mouth) keep some proportions whatever the face and, but for those
named, whatever the pose. The bounds hold for every one of 3,338 faces with hand-made points, and for detected points
at yaws to 90°.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from fra_dist.data.making.faces.annotations import Face, Points
from fra_dist.data.making.faces.face_crop import FaceCropRule, crop_place, crop_side, turn

PADDED = 0.1
"""Share of a crop outside the photo from which on it counts as padded."""
_EYES = (0.45, 1.6)  # distance of the eyes over that from eyes to mouth; the first only of faces that look ahead
_AHEAD = 0.35  # |turn| up to which a face looks ahead
_NOSE = (-0.1, 1.3)  # place of the nose from eyes (0) to mouth (1)
_GRID = 64


class CropFacts(NamedTuple):
    """How a crop lies in its photo, and what is odd about its points."""

    side: float
    """Side of the crop in pixels of the photo."""
    padded: float
    """Share of the crop that lies outside the photo and repeats its edge, 0 to 1."""
    doubt: str
    """Why the points cannot be those of a face, in a few words; empty for points that can be."""


def crop_facts(face: Face, rule: FaceCropRule, width: int, height: int) -> CropFacts:
    """The facts on the crop of a face in a photo of width × height. Raises BadImage as `face_crop.crop` does."""
    place = crop_place(face, rule, width, height)
    doubt = "" if face.points is None else doubt_of(face.points)
    return CropFacts(crop_side(place), _outside(place, width, height), doubt)


def doubt_of(points: Points) -> str:
    """Why five points cannot be those of a face, in a few words; empty when they can be."""
    left, right, nose, mouth_left, mouth_right = np.array(points, np.float64).reshape(5, 2)
    eyes, middle, mouth = right - left, (left + right) / 2, mouth_right - mouth_left
    down = (mouth_left + mouth_right) / 2 - middle
    across, height = float(np.linalg.norm(eyes)), float(np.linalg.norm(down))
    if across < 1e-6 or height < 1e-6:
        return "points in one place"
    if eyes[0] * down[1] - eyes[1] * down[0] < -0.1 * across * height or eyes @ mouth < 0:
        return "mirrored points: left and right are those of the picture"
    ratio, nose_at = across / height, float((nose - middle) @ down) / height**2
    if ratio > _EYES[1] or (ratio < _EYES[0] and abs(turn(points)) < _AHEAD):
        return f"implausible points: eyes {ratio:.2f} of the way to the mouth apart"
    if not _NOSE[0] <= nose_at <= _NOSE[1]:
        return f"implausible points: nose at {nose_at:.2f} from eyes (0) to mouth (1)"
    return ""


def _outside(place: NDArray[np.float64], width: int, height: int) -> float:
    """Share of a crop outside the photo, counted on a grid."""
    axis = (np.arange(_GRID) + 0.5) / _GRID
    x, y = (row[0] * axis[None, :] + row[1] * axis[:, None] + row[2] for row in place)
    return float(1 - ((x >= 0) & (x <= width) & (y >= 0) & (y <= height)).mean())
