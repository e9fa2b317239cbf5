"""How regions follow the face: from a photo to known crops of it, to its mirror image, and from pose to pose.

n faces, P landmarks, Q regions, photos (n, S, S, 3). Places are x and y as shares of the photo's side; lengths are in
inter-ocular distances. `eval/tasks/consistency.py` says what each score means.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from fra_dist.eval.datasets.common.crop_rules import Square, cut_photo
from fra_dist.eval.regions.pixel_regions import IN_USE
from fra_dist.eval.scores.intervals import Floats

GRID = 64
"""Side in pixels at which regions are compared."""
SIDE = 0.15
"""A region whose centre is this many inter-ocular distances off the middle of the face is at one side of it."""
CROPS = ((0.0, 0.0, 0.8), (0.2, 0.05, 0.8), (0.1, 0.15, 0.85))
"""The known crops: x and y of the upper left corner and the side, as shares of the photo's side."""
Labeller = Callable[[NDArray[np.uint8], Floats], NDArray[np.int64]]
"""Photos (n, S, S, 3) and their landmarks (n, P, 2) -> region of each pixel (n, GRID, GRID)."""


def follow_face(
    photos: NDArray[np.uint8], points: Floats, unit: Floats, label: Labeller, regions: int
) -> dict[str, Floats]:
    """Return {score: (n,) values}, those of the module's table for n faces; NaN where a face has no region to count.

    Args:
        photos: (n, S, S, 3) uint8.
        points: (n, P, 2) landmarks, as shares of the side.
        unit: (n,) length that distances are divided by, as a share of the side.
        label: gives the regions of photos, with landmarks for oracles that need them.
        regions: number of regions Q.
    """
    face = face_boxes(points)
    before = label(photos, points)
    centres = region_centres(before, face, regions)
    crops = [_cropped(photos, points, face, unit, label, regions, before, crop) for crop in CROPS]
    with np.errstate(all="ignore"):
        found = {
            "crop/distance": _mean([distance for distance, _ in crops]),
            "crop/stable": _mean([stable for _, stable in crops]),
        }
        same_side = points * np.array([-1.0, 1.0]) + np.array([1.0, 0.0])  # a point stays at its side of the person
        mirrored = label(photos[:, :, ::-1], same_side)
        back = region_centres(mirrored[:, :, ::-1], face, regions)
        found["flip/distance"] = _mean(list(_lengths(back - centres, unit).T))
        found["flip/stable"] = _share((mirrored[:, :, ::-1] == before), face)
        found["flip/follows"] = _follows(centres, back, points, unit)
        found["pose/spread"] = pose_spread(centres, points)
    return found


def region_centres(assigned: NDArray[np.int64], face: NDArray[np.bool_], regions: int) -> Floats:
    """Mean place of each region's pixels inside the face, (n, Q, 2) x and y as shares of the side.

    assigned: (n, G, G) region of each pixel; face: (n, G, G) bool, which pixels belong to the face; regions: Q. NaN for
    a region with less than the share IN_USE (1 %) of the face's pixels.
    """
    grid = (np.arange(assigned.shape[1]) + 0.5) / assigned.shape[1]
    out = np.full((len(assigned), regions, 2), np.nan)
    total = face.sum((1, 2))
    for q in range(regions):
        inside = (assigned == q) & face
        count = inside.sum((1, 2))
        enough = (count >= IN_USE * total) & (count > 0)
        x = (inside.sum(1) * grid).sum(1) / np.maximum(count, 1)
        y = (inside.sum(2) * grid).sum(1) / np.maximum(count, 1)
        out[enough, q] = np.stack([x, y], 1)[enough]
    return out


def face_boxes(points: Floats) -> NDArray[np.bool_]:
    """Which of GRID × GRID pixels lie in the smallest upright box around the landmarks, (n, GRID, GRID) bool.

    points: (n, P, 2) x and y as shares of the side; the box is cut off at the photo's border.
    """
    grid = (np.arange(GRID) + 0.5) / GRID
    low, high = points.min(1), points.max(1)
    x = (grid >= low[:, :1]) & (grid <= high[:, :1])
    y = (grid >= low[:, 1:]) & (grid <= high[:, 1:])
    return y[:, :, None] & x[:, None, :]


def pose_spread(centres: Floats, points: Floats) -> Floats:
    """Mean distance of a face's region centres from the regions' mean centres, (n,), NaN without any region.

    centres: (n, Q, 2); points: (n, P, 2) landmarks; both as shares of the side. Each face is first brought to the mean
    shape by the affine map that fits its landmarks best (least squares). The unit is the mean distance of the mean
    shape's points from their middle, about the distance of the eyes.
    """
    middle = points.mean(1, keepdims=True)
    size = np.sqrt(((points - middle) ** 2).sum(-1).mean(1))[:, None, None]
    mean = ((points - middle) / size).mean(0)
    ones = np.ones((points.shape[1], 1))
    placed = np.empty_like(centres)
    for n in range(len(points)):
        matrix = np.linalg.lstsq(np.concatenate([points[n], ones], 1), mean, rcond=None)[0]
        placed[n] = centres[n] @ matrix[:2] + matrix[2]
    length = np.linalg.norm(mean, axis=-1).mean()
    known = ~np.isnan(placed[:, :, 0])
    count = known.sum(0)[:, None]
    typical = np.where(count > 0, np.nansum(placed, 0) / np.maximum(count, 1), np.nan)
    return _mean(list((np.linalg.norm(placed - typical, axis=-1) / length).T))


def _cropped(
    photos: NDArray[np.uint8],
    points: Floats,
    face: NDArray[np.bool_],
    unit: Floats,
    label: Labeller,
    regions: int,
    before: NDArray[np.int64],
    crop: tuple[float, float, float],
) -> tuple[Floats, Floats]:
    """Distance and stable share of each photo under one crop, over the pixels that both show."""
    size = photos.shape[1]
    square = Square(crop[0] * size, crop[1] * size, crop[2] * size)
    moved = (points - np.array(crop[:2])) / crop[2]
    after = label(np.stack([cut_photo(photo, square, size) for photo in photos]), moved)
    steps = (np.arange(GRID) + 0.5) / GRID * crop[2]
    rows, columns = ((start + steps) * GRID for start in (crop[1], crop[0]))
    window = np.ix_(np.arange(len(photos)), rows.astype(np.int64), columns.astype(np.int64))
    seen, old = face[window], before[window]
    shift = region_centres(after, seen, regions) - region_centres(old, seen, regions)
    return _mean(list(_lengths(shift * crop[2], unit).T)), _share(after == old, seen)


def _follows(centres: Floats, back: Floats, points: Floats, unit: Floats) -> Floats:
    """`back` are the centres in the mirrored photo, taken back: a region that stays in the picture is at -d."""
    middle = points[..., 0].mean(1)[:, None]
    there, here = (centres[..., 0] - middle) / unit[:, None], (back[..., 0] - middle) / unit[:, None]
    counted = (np.abs(there) > SIDE) & ~np.isnan(here)
    follows = np.abs(here - there) < np.abs(here + there)
    return np.where(counted.any(1), (follows & counted).sum(1) / np.maximum(counted.sum(1), 1), np.nan)


def _lengths(offsets: Floats, unit: Floats) -> Floats:
    return np.linalg.norm(offsets, axis=-1) / unit[:, None]


def _share(equal: NDArray[np.bool_], face: NDArray[np.bool_]) -> Floats:
    return np.where(face.any((1, 2)), (equal & face).sum((1, 2)) / np.maximum(face.sum((1, 2)), 1), np.nan)


def _mean(parts: list[Floats]) -> Floats:
    """Mean over the list, NaN left out; NaN where all are."""
    values = np.stack(parts)
    known = ~np.isnan(values)
    return np.where(known.any(0), np.where(known, values, 0).sum(0) / np.maximum(known.sum(0), 1), np.nan)
