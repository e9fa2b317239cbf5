"""The faces that regions are tested on, in several views, and the oracles that know their labels.

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
class FaceView:
    """The test faces in one view: whole photos, random crops, or with polygons of landmarks as masks."""

    places: Places
    """(n,) places of the faces in the prepared set."""
    photos: NDArray[np.uint8]
    """(n, S, S, 3) uint8 RGB."""
    masks: NDArray[np.uint8]
    """(n, M, M) class numbers."""
    classes: Sequence[str]
    """Names of the L classes, in the order of their numbers."""
    boxes: Floats | None = None
    """(n, 3) x, y and side of crops, as shares of the photo's side; None: whole photos."""


def faces_under_test(job: TaskInput, test: Places) -> dict[str, FaceView]:
    """Return {view: faces}: always `whole`, and those of `crops` and `polygons` that the settings ask for.

    test: (n,) places of the test faces in the prepared set. `polygons` needs a set with both masks and landmarks.
    Raises DataError when a mask cannot be read.
    """
    prepared = job.prepared
    masks, classes = prepared.masks(test)
    whole = FaceView(test, np.asarray(prepared.photos[test]), masks, classes)
    found, views = {WHOLE: whole}, job.settings.views
    if CROPS in views:
        found[CROPS] = cropped(whole, job.settings.seed)
    polygons = prepared.polygons(test) if POLYGONS in views and prepared.faces.mask_classes else None
    if polygons is not None:
        found[POLYGONS] = replace(whole, masks=polygons, classes=POLYGON_CLASSES)
    return found


def cropped(faces: FaceView, seed: int) -> FaceView:
    """Return the view of random square crops: photos and masks are cut and scaled back to their old sides.

    The sides are uniform in CROP_SIDES, the corners uniform over the places where the square fits; `seed` draws them.
    """
    generator = np.random.default_rng([seed, 1])
    sides = generator.uniform(*CROP_SIDES, len(faces.places))
    corners = generator.uniform(0, 1, (len(sides), 2)) * (1 - sides[:, None])
    boxes = np.concatenate([corners, sides[:, None]], 1)
    size = faces.photos.shape[1]
    photos = [cut_photo(one, Square(*(box * size)), size) for one, box in zip(faces.photos, boxes, strict=True)]
    return replace(faces, photos=np.stack(photos), masks=cut_masks(faces.masks, boxes), boxes=boxes)


def cut_masks(masks: NDArray[np.uint8], boxes: Floats) -> NDArray[np.uint8]:
    """Cut a square out of each mask and scale it to the mask's side, to the nearest pixel.

    masks: (n, M, M) uint8; boxes: (n, 3) x and y of the upper left corner and the side, as shares of M. Returns
    (n, M, M) uint8.
    """
    size = masks.shape[1]
    pairs = zip(masks, boxes, strict=True)
    return np.stack([cut_mask(one, Square(*(box * size)), (size, size), size) for one, box in pairs])


def groups_of_yaw(yaws: Floats) -> dict[str, NDArray[np.bool_]]:
    """Group faces by the angle by which they are turned to the side.

    yaws: (n,) degrees, positive or negative, NaN where not known. Returns {group: (n,) bool}, for the groups of YAWS
    that have any face.
    """
    turned = np.abs(yaws)
    found = {name: (turned >= low) & (turned < high) for name, (low, high) in YAWS.items()}
    return {name: inside for name, inside in found.items() if inside.any()}


@dataclass(frozen=True)
class Oracles:
    """The regions of `ceiling` and `face_frame`, which see the labels of the faces they are scored on.

    Made by `fitted` from training faces; `tables` scores test faces. `oracles.py` gives the formulas.
    """

    job: TaskInput
    """The task's network, faces and settings."""
    side: tuple[int, int]
    """(H, W) of the network's map."""
    regions: int
    """Number of regions Q of `face_frame`."""
    shape: Floats | None
    """(P, 2) mean shape of the training faces; None: frames come from masks."""
    centres: Floats | None
    """(Q, 2) centres of the regions in the frame; None: the training masks have too few parts."""

    @classmethod
    def fitted(
        cls, job: TaskInput, train: Places, masks: NDArray[np.uint8], classes: Sequence[str], regions: int
    ) -> "Oracles":
        """Fit the oracles to training faces.

        Args:
            job: the task's network, faces and settings.
            train: (n,) places of the training faces in the prepared set.
            masks: (n, M, M) uint8 class numbers of these faces.
            classes: names of the L classes.
            regions: number of clusters Q of `face_frame`.
        """
        maps = job.encoder.maps(job.prepared.photos[train[:1]])
        shape = None
        frames = oracles.frames_of_masks(masks, classes)
        if job.prepared.faces.scheme:
            points = job.prepared.points()[train]
            shape = oracles.mean_shape(points)
            frames = oracles.frames_of_points(points, shape)
        centres = oracles.frame_clusters(masks, classes, frames, regions, job.settings.seed)
        return cls(job, (maps.shape[2], maps.shape[3]), regions, shape, centres)

    def tables(self, faces: FaceView) -> dict[str, NDArray[np.int64]]:
        """Return {oracle: (n, Q, L)}: pixels of each face that region and class share.

        Only the oracles that the settings ask for; without `face_frame` when the training masks have too few parts.
        """
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
