"""Consistency: do regions follow the face when the photo is cropped or mirrored, and from pose to pose?

Lengths are in inter-ocular distances. A region's centre is the mean place of its pixels inside the face (the
landmarks' box); regions with less than 1 % of these pixels have none.

| score | meaning |
|---|---|
| `crop/distance` | between a region's centre and its centre in a known crop, taken back; smaller is better |
| `crop/stable` | share of the face's pixels that keep their region |
| `flip/distance`, `flip/stable` | the same for the mirrored photo, taken back |
| `flip/follows` | of regions at one side of the face, the share found at the same side of the person in the mirrored photo; the others stay at the same side of the picture |
| `pose/spread` | distance of a region's centre from its mean over all faces, after each face was brought to the mean shape by the best affine map of its landmarks |

Regions of k-means on position (`position`) do not move with the face, those of random directions in place of prototypes
(`random_prototypes`) mean nothing: their scores are the floors. `face_frame` uses the true landmarks of each photo:
k-means on places of the mean shape, in the face's own frame; `ceiling` is the same at the size of the network's map, each
pixel with the region that holds most of its cell.
"""  # noqa: E501

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from fra_dist.errors import DataError
from fra_dist.eval.datasets.common.crop_rules import Square, cut_photo
from fra_dist.eval.datasets.common.landmark_schemes import SCHEMES, inter_ocular, inter_pupil
from fra_dist.eval.oracles import (
    CEILING,
    FACE_FRAME,
    assign_in_frame,
    class_shares,
    frames_of_points,
    grid_places,
    mean_shape,
)
from fra_dist.eval.regions.pixel_regions import IN_USE, assign
from fra_dist.eval.regions.segmenters import Segmenter, regions_of, segmenters
from fra_dist.eval.scores.intervals import Floats, Score, Statistic, with_interval
from fra_dist.eval.tasks.common import TaskInput, TaskResult

GRID = 64
"""Side in pixels at which regions are compared."""
FACES = 500
"""Largest number of test faces, taken evenly spaced."""
SIDE = 0.15
"""A region whose centre is this many inter-ocular distances off the middle of the face is at one side of it."""
CROPS = ((0.0, 0.0, 0.8), (0.2, 0.05, 0.8), (0.1, 0.15, 0.85))
"""The known crops: x and y of the upper left corner and the side, as shares of the photo's side."""
BATCH = 64
"""Photos that a segmenter sees at a time."""
Labeller = Callable[[NDArray[np.uint8], Floats], NDArray[np.int64]]
"""Photos (n, S, S, 3) and their landmarks (n, P, 2) -> region of each pixel (n, GRID, GRID)."""


def run(job: TaskInput) -> TaskResult:
    """Measure how the regions of a network, of baselines and of oracles follow the face, on test faces.

    Returns one score of each kind in the module's table for every way that the settings ask for, named WAY/SCORE.
    Raises DataError when the set has no landmarks, or landmarks that do not give the distance of the eyes in every
    face.
    """
    prepared, seed, draws = job.prepared, job.settings.seed, job.settings.bootstrap
    scheme = SCHEMES.get(prepared.faces.scheme)
    test = prepared.places("test")
    test = test[np.unique(np.linspace(0, len(test) - 1, min(FACES, len(test))).astype(np.int64))]
    points = prepared.points()[test]
    unit = (inter_ocular(points, scheme) if scheme.corners else inter_pupil(points, scheme)) if scheme else None
    if unit is None or not (unit > 1e-6).all():
        raise DataError(f"{prepared.faces.name} has no landmarks that give the distance of the eyes in every face")
    regions = regions_of(job.encoder, job.settings.regions)
    train = prepared.places("train")
    ways = segmenters(job.encoder, prepared.photos[train], regions, seed, job.settings.ways)
    labellers = {name: by_similarity(way) for name, way in ways.items()}
    if not {CEILING, FACE_FRAME}.isdisjoint(job.settings.ways):
        side = job.encoder.maps(prepared.photos[test[:1]]).shape[2:]
        told = oracles_of(prepared.points()[train], regions, (side[0], side[1]), seed)
        labellers |= {name: label for name, label in told.items() if name in job.settings.ways}
    people = prepared.people(test)
    scores: dict[str, Score] = {}
    details: dict[str, object] = {"regions": regions, "faces": len(test)}
    for name, label in labellers.items():
        values = follow_face(np.asarray(prepared.photos[test]), points, unit, label, regions)
        for key, each in values.items():
            higher = key not in ("crop/distance", "flip/distance", "pose/spread")
            scores[f"{name}/{key}"] = with_interval(known_mean(each), len(test), people, seed, higher, draws)
    return TaskResult("consistency", _protocol(), scores, tuple(scores), details, grid=True)


def by_similarity(way: Segmenter) -> Labeller:
    """Turn a segmenter, which needs photos alone, into a labeller: each pixel takes its most similar region."""

    def label(photos: NDArray[np.uint8], points: Floats) -> NDArray[np.int64]:
        parts = [assign(way(photos[start : start + BATCH]), (GRID, GRID)) for start in range(0, len(photos), BATCH)]
        return np.concatenate(parts)

    return label


def oracles_of(points: Floats, regions: int, side: tuple[int, int], seed: int) -> dict[str, Labeller]:
    """Fit the oracles `face_frame` and `ceiling` to training faces; returns {oracle: labeller}.

    Args:
        points: (n, P, 2) landmarks of training faces, as shares of the side.
        regions: number of regions Q.
        side: (H, W) of the network's map, at which `ceiling` is computed.
        seed: of k-means and of the places that it is fitted to.
    """
    from sklearn.cluster import KMeans

    shape = mean_shape(points)
    frames = frames_of_points(points, shape)
    inside = face_boxes(points)
    some = np.linspace(0, len(points) - 1, min(100, len(points))).astype(np.int64)
    places = np.concatenate([frames.bring(n, grid_places(GRID)[inside[n]]) for n in some])
    chosen = np.random.default_rng(seed).choice(len(places), min(20_000, len(places)), replace=False)
    centres = KMeans(regions, n_init=10, random_state=seed).fit(places[chosen]).cluster_centers_

    def fine(photos: NDArray[np.uint8], points: Floats) -> NDArray[np.int64]:
        return assign_in_frame(frames_of_points(points, shape), centres, GRID)

    def coarse(photos: NDArray[np.uint8], points: Floats) -> NDArray[np.int64]:
        most = class_shares(fine(photos, points).astype(np.uint8), regions, side)[0].argmax(1)
        rows, columns = (np.arange(GRID) * cells // GRID for cells in side)
        return most[:, rows[:, None], columns]

    return {FACE_FRAME: fine, CEILING: coarse}


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


def known_mean(values: Floats) -> Statistic:
    """Return the statistic "weighted mean of the values (n,) that are not NaN"; NaN when all weights of those are 0."""
    known = ~np.isnan(values)
    filled = np.where(known, values, 0.0)

    def statistic(weights: Floats) -> float:
        total = (weights * known).sum()
        return float((weights * filled).sum() / total) if total else float("nan")

    return statistic


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


def _protocol() -> dict[str, object]:
    return {
        "faces": f"at most {FACES} of the test part; nothing is trained",
        "crops": [list(crop) for crop in CROPS],
        "pixels": f"{GRID} by {GRID}, inside the box of the landmarks",
        "unit": "distance of the outer eye corners, or of the pupils",
        "side": SIDE,
        "face_frame": "k-means on places of training faces brought to the mean shape; test faces by true landmarks",
        "ceiling": "face_frame at the size of the network's map, the region that holds most of a cell",
    }
