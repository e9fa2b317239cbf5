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

import numpy as np
from numpy.typing import NDArray

from fra_dist.errors import DataError
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
from fra_dist.eval.regions.following import CROPS, GRID, SIDE, Labeller, face_boxes, follow_face
from fra_dist.eval.regions.pixel_regions import assign
from fra_dist.eval.regions.segmenters import Segmenter, regions_of, segmenters
from fra_dist.eval.scores.intervals import Floats, Score, Statistic, with_interval
from fra_dist.eval.tasks.common import TaskInput, TaskResult

FACES = 500
"""Largest number of test faces, taken evenly spaced."""
BATCH = 64
"""Photos that a segmenter sees at a time."""


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
        oracles = oracles_of(prepared.points()[train], regions, (side[0], side[1]), seed)
        labellers |= {name: label for name, label in oracles.items() if name in job.settings.ways}
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
        rows, columns = ((2 * np.arange(GRID) + 1) * cells // (2 * GRID) for cells in side)
        return most[:, rows[:, None], columns]

    return {FACE_FRAME: fine, CEILING: coarse}


def known_mean(values: Floats) -> Statistic:
    """Return the statistic "weighted mean of the values (n,) that are not NaN"; NaN when all weights of those are 0."""
    known = ~np.isnan(values)
    filled = np.where(known, values, 0.0)

    def statistic(weights: Floats) -> float:
        total = (weights * known).sum()
        return float((weights * filled).sum() / total) if total else float("nan")

    return statistic


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
