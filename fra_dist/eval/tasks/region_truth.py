"""The faces that regions are tested on, in several views, and the oracles, which know their truth.

n test faces, M pixels per side of the masks, L classes, Q regions, S pixels per side of the photos.
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
from fra_dist.eval.tasks.common import Job, Places

WHOLE, CROPS, POLYGONS = "whole", "crops", "polygons"
ONLY_PARTS = (POSITION_IN_PARTS, FACE_FRAME)
"""Ways of getting regions that lie only where parts are: over all pixels they mean nothing."""
CROP_SIDES = (0.6, 0.95)
"""Smallest and largest side of random crops, as shares of the photo's side."""
YAWS = {"yaw_0_30": (0, 30), "yaw_30_60": (30, 60), "yaw_60_90": (60, 91)}
"""Groups of faces by |yaw|: at least the first number of degrees and below the second; the last group includes 90."""


@dataclass(frozen=True)
class Faces:
    """One view of the test part: whole photos, crops of them, or photos with other masks."""

    places: Places
    """(n,) places of the faces in the prepared set."""
    photos: NDArray[np.uint8]
    """(n, S, S, 3) photos of this view."""
    masks: NDArray[np.uint8]
    """(n, M, M) masks of this view."""
    classes: Sequence[str]
    """Names of the masks' classes."""
    boxes: Floats | None = None
    """(n, 3) x, y and side of crops, as shares of the photo's side; None: whole photos."""


def faces_under_test(job: Job, test: Places) -> dict[str, Faces]:
    """The views of the test part by name.

    They are whole photos, random crops of them, and, for a set with masks and landmarks, the polygons of the landmarks.
    """
    prepared = job.prepared
    masks, classes = prepared.masks(test)
    whole = Faces(test, np.asarray(prepared.photos[test]), masks, classes)
    found = {WHOLE: whole, CROPS: cropped(whole, job.settings.seed)}
    polygons = prepared.polygons(test) if prepared.faces.mask_classes else None
    if polygons is not None:
        found[POLYGONS] = replace(whole, masks=polygons, classes=POLYGON_CLASSES)
    return found


def cropped(faces: Faces, seed: int) -> Faces:
    """A random square of each photo and mask, scaled back to the whole side."""
    generator = np.random.default_rng([seed, 1])
    sides = generator.uniform(*CROP_SIDES, len(faces.places))
    corners = generator.uniform(0, 1, (len(sides), 2)) * (1 - sides[:, None])
    boxes = np.concatenate([corners, sides[:, None]], 1)
    size = faces.photos.shape[1]
    photos = [cut_photo(one, Square(*(box * size)), size) for one, box in zip(faces.photos, boxes, strict=True)]
    return replace(faces, photos=np.stack(photos), masks=cut_masks(faces.masks, boxes), boxes=boxes)


def cut_masks(masks: NDArray[np.uint8], boxes: Floats) -> NDArray[np.uint8]:
    """Squares of masks (n, M, M), scaled to (n, M, M); boxes: (n, 3) x, y and side as shares of the side."""
    size = masks.shape[1]
    pairs = zip(masks, boxes, strict=True)
    return np.stack([cut_mask(one, Square(*(box * size)), (size, size), size) for one, box in pairs])


def groups_of_yaw(yaws: Floats) -> dict[str, NDArray[np.bool_]]:
    """Which faces are in each group of YAWS that has any, from yaws (n,) in degrees, NaN where not known."""
    turned = np.abs(yaws)
    found = {name: (turned >= low) & (turned < high) for name, (low, high) in YAWS.items()}
    return {name: inside for name, inside in found.items() if inside.any()}


@dataclass(frozen=True)
class Oracles:
    """The oracles `ceiling` and `face_frame` of `oracles.py`, fitted to training faces."""

    job: Job
    """The task's input."""
    side: tuple[int, int]
    """(H, W) of the network's map."""
    regions: int
    """Q, the number of regions."""
    shape: Floats | None
    """(P, 2) mean shape of the training faces; None where frames come from masks."""
    centres: Floats | None
    """(Q, 2) cluster centres in the frame; None where the training masks have too few parts."""

    @classmethod
    def fitted(
        cls, job: Job, train: Places, masks: NDArray[np.uint8], classes: Sequence[str], regions: int
    ) -> "Oracles":
        """The oracles with clusters of the places of parts in the masks (n, M, M) of the training faces at `train`."""
        maps = job.encoder.maps(job.prepared.photos[train[:1]])
        shape = None
        frames = oracles.frames_of_masks(masks, classes)
        if job.prepared.faces.scheme:
            points = job.prepared.points()[train]
            shape = oracles.mean_shape(points)
            frames = oracles.frames_of_points(points, shape)
        centres = oracles.frame_clusters(masks, classes, frames, regions, job.settings.seed)
        return cls(job, (maps.shape[2], maps.shape[3]), regions, shape, centres)

    def tables(self, faces: Faces) -> dict[str, NDArray[np.int64]]:
        """Pixels by region and class of each oracle on these faces, (n, Q, L)."""
        width = len(faces.classes)
        found = {CEILING: count_similarity(on_map(faces.masks, width, self.side), faces.masks, width)}
        if self.centres is not None:
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
