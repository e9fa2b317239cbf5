"""The faces that regions are tested on, in several views, and what knows their truth.

n test faces, M pixels a side of the masks, L classes, Q regions, S pixels a side of the photos.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from fra_dist.eval import oracles
from fra_dist.eval.datasets.common.crop_rules import Square, cut_mask, cut_photo
from fra_dist.eval.datasets.common.landmark_schemes import POLYGON_CLASSES
from fra_dist.eval.features.prepared_faces import MASK_SIDE
from fra_dist.eval.oracles import CEILING, FACE_FRAME, Floats, Frames, assign_in_frame, on_map
from fra_dist.eval.region_tables import count_pixels, count_similarity
from fra_dist.eval.regions.segmenters import POSITION_IN_PARTS
from fra_dist.eval.tasks.common import Places, TaskInput

WHOLE, CROPS, POLYGONS = "whole", "crops", "polygons"
ONLY_PARTS = (POSITION_IN_PARTS, FACE_FRAME)
"""Ways whose regions lie where parts are: over all pixels they mean nothing."""
CROP_SIDES = (0.6, 0.95)
"""Sides of random crops, as shares of the photo's: smallest and largest."""
YAWS = {"yaw_0_30": (0, 30), "yaw_30_60": (30, 60), "yaw_60_90": (60, 91)}
"""Group of faces -> |yaw| in degrees from the first below the second; the last holds 90."""


@dataclass(frozen=True)
class TestView:
    """One view of the test part."""

    places: Places
    """(n,) in the prepared set."""
    photos: NDArray[np.uint8]
    """(n, S, S, 3)"""
    masks: NDArray[np.uint8]
    """(n, M, M)"""
    classes: Sequence[str]
    boxes: Floats | None = None
    """(n, 3) x, y and side of crops, as shares of the photo's side; None: whole photos."""


def faces_under_test(job: TaskInput, test: Places) -> dict[str, TestView]:
    """Whole photos, and the views that the settings ask for: random crops, and, for a set with masks and landmarks, the
    polygons of the landmarks."""
    prepared = job.prepared
    masks, classes = prepared.masks(test)
    whole = TestView(test, np.asarray(prepared.photos[test]), masks, classes)
    found, views = {WHOLE: whole}, job.settings.views
    if CROPS in views:
        found[CROPS] = cropped(whole, job.settings.seed)
    polygons = prepared.polygons(test) if POLYGONS in views and prepared.faces.mask_classes else None
    if polygons is not None:
        found[POLYGONS] = replace(whole, masks=polygons, classes=POLYGON_CLASSES)
    return found


def cropped(faces: TestView, seed: int) -> TestView:
    """A square of each photo and mask at a random place, scaled back to the whole side."""
    generator = np.random.default_rng([seed, 1])
    sides = generator.uniform(*CROP_SIDES, len(faces.places))
    corners = generator.uniform(0, 1, (len(sides), 2)) * (1 - sides[:, None])
    boxes = np.concatenate([corners, sides[:, None]], 1)
    size = faces.photos.shape[1]
    photos = [cut_photo(one, Square(*(box * size)), size) for one, box in zip(faces.photos, boxes, strict=True)]
    return replace(faces, photos=np.stack(photos), masks=cut_masks(faces.masks, boxes), boxes=boxes)


def cut_masks(masks: NDArray[np.uint8], boxes: Floats) -> NDArray[np.uint8]:
    """(n, M, M) and (n, 3) x, y, side as shares of the side -> (n, M, M)."""
    size = masks.shape[1]
    pairs = zip(masks, boxes, strict=True)
    return np.stack([cut_mask(one, Square(*(box * size)), (size, size), size) for one, box in pairs])


def groups_of_yaw(yaws: Floats) -> dict[str, NDArray[np.bool_]]:
    """(n,) degrees, NaN where not known -> which faces are in each group of YAWS that has any."""
    turned = np.abs(yaws)
    found = {name: (turned >= low) & (turned < high) for name, (low, high) in YAWS.items()}
    return {name: inside for name, inside in found.items() if inside.any()}


@dataclass(frozen=True)
class Oracles:
    """`ceiling` and `face_frame` of `oracles.py`, fitted to training faces."""

    job: TaskInput
    side: tuple[int, int]
    """(H, W) of the network's map."""
    regions: int
    shape: Floats | None
    """(P, 2) mean shape of the training faces; None: frames come from masks."""
    centres: Floats | None
    """(Q, 2) in the frame; None: the training masks have too few parts."""

    @classmethod
    def fitted(
        cls, job: TaskInput, train: Places, masks: NDArray[np.uint8], classes: Sequence[str], regions: int
    ) -> "Oracles":
        """Clusters of the places of parts in the masks (n, M, M) of the training faces at `train`."""
        maps = job.encoder.maps(job.prepared.photos[train[:1]])
        shape = None
        frames = oracles.frames_of_masks(masks, classes)
        if job.prepared.faces.scheme:
            points = job.prepared.points()[train]
            shape = oracles.mean_shape(points)
            frames = oracles.frames_of_points(points, shape)
        centres = oracles.frame_clusters(masks, classes, frames, regions, job.settings.seed)
        return cls(job, (maps.shape[2], maps.shape[3]), regions, shape, centres)

    def tables(self, faces: TestView) -> dict[str, NDArray[np.int64]]:
        """(n, Q, L) of each oracle that the settings ask for."""
        width, ways = len(faces.classes), self.job.settings.ways
        found: dict[str, NDArray[np.int64]] = {}
        if CEILING in ways:
            found[CEILING] = count_similarity(on_map(faces.masks, width, self.side), faces.masks, width)
        if FACE_FRAME in ways and self.centres is not None:
            assigned = assign_in_frame(self._frames(faces.places), self.centres, MASK_SIDE).astype(np.uint8)
            if faces.boxes is not None:
                assigned = cut_masks(assigned, faces.boxes)
            found[FACE_FRAME] = count_pixels(assigned.astype(np.int64), faces.masks, self.regions, width)
        return found

    def _frames(self, places: Places) -> Frames:
        prepared = self.job.prepared
        if self.shape is not None:
            return oracles.frames_of_points(prepared.points()[places], self.shape)
        return oracles.frames_of_masks(*prepared.masks(places))
