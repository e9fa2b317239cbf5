"""Oracles, what regions could score at most: the truth at the size of the map, and places in the face's own frame.

Both see the labels of the very faces they are scored on, so they are no method; they say what a score is worth.

| name | regions |
|---|---|
| `ceiling` | the shares of the true classes in each cell of the map, upsampled as similarities are; the largest wins |
| `face_frame` | k-means on the places of facial parts in training faces, after each face was brought to one frame |

The frame: with landmarks, the best affine map of a face's points to the mean shape of the training faces; with masks
alone, the place less the mean of the face's parts, over their standard deviation, for x and y each. Neither is a bound:
regions that cut parts at other borders than the map's cells can score above the ceiling.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from fra_dist.eval.regions.pixel_regions import FACIAL_PARTS

Floats = NDArray[np.float64]
CEILING, FACE_FRAME = "ceiling", "face_frame"
FITTED_PLACES = 20_000
"""Most places of parts that the clusters of the face's frame are fitted to."""


def class_shares(masks: NDArray[np.uint8], classes: int, side: tuple[int, int]) -> tuple[Floats, NDArray[np.bool_]]:
    """Share of each class among the counted pixels of each cell, (n, L, h, w), and whether any count there, (n, h, w).

    masks: (n, M, M) class numbers; classes: L; side: height h and width w of the map.
    """
    one_hot = torch.from_numpy(np.stack([masks == k for k in range(classes)], 1).astype(np.float32))
    shares = functional.adaptive_avg_pool2d(one_hot, side)
    total = shares.sum(1)
    return (shares / total[:, None].clamp(min=1e-6)).double().numpy(), (total > 0.25).numpy()


def on_map(masks: NDArray[np.uint8], classes: int, side: tuple[int, int]) -> Tensor:
    """The truth as similarities (n, L, h, w) of a map of that size, from masks (n, M, M)."""
    return torch.from_numpy(class_shares(masks, classes, side)[0]).float()


@dataclass(frozen=True)
class Frames:
    """How each of n faces is brought to the common frame: a place x, y in sides of it -> matrix · place + shift."""

    matrix: Floats
    """(n, 2, 2) matrix of each face."""
    shift: Floats
    """(n, 2) shift of each face."""

    def bring(self, n: int, places: Floats) -> Floats:
        """Places (..., 2) of face n, brought to the common frame."""
        return places @ self.matrix[n].T + self.shift[n]


def frames_of_points(points: Floats, shape: Floats) -> Frames:
    """The frames by landmarks: the best affine map (least squares) of each face's points to the mean shape.

    points: (n, P, 2); shape: (P, 2).
    """
    ones = np.ones((*points.shape[:2], 1))
    found = np.stack([np.linalg.lstsq(one, shape, rcond=None)[0] for one in np.concatenate([points, ones], 2)])
    return Frames(found[:, :2].transpose(0, 2, 1), found[:, 2])


def mean_shape(points: Floats) -> Floats:
    """The mean shape (P, 2) of points (n, P, 2), after middle and size of each face were taken off.

    The mean length of its points is 1.
    """
    middle = points.mean(1, keepdims=True)
    size = np.sqrt(((points - middle) ** 2).sum(-1).mean(1))[:, None, None]
    return ((points - middle) / np.maximum(size, 1e-9)).mean(0)


def frames_of_masks(masks: NDArray[np.uint8], classes: Sequence[str]) -> Frames:
    """The frames by masks (n, M, M): middle and spread of each face's parts.

    A face without a part is taken as it lies.
    """
    places = grid_places(masks.shape[1])
    matrices, shifts = np.tile(np.eye(2), (len(masks), 1, 1)), np.zeros((len(masks), 2))
    for n, part in enumerate(of_parts(masks, classes)):
        if part.any():
            some = places[part]
            scale = 1 / np.maximum(some.std(0), 1e-3)
            matrices[n], shifts[n] = np.diag(scale), -some.mean(0) * scale
    return Frames(matrices, shifts)


def frame_clusters(
    masks: NDArray[np.uint8], classes: Sequence[str], frames: Frames, regions: int, seed: int
) -> Floats | None:
    """Centres (Q, 2) of k-means on the places of the parts of masks (n, M, M), in the frame.

    None when there are too few such places.
    """
    from sklearn.cluster import KMeans

    places = grid_places(masks.shape[1])
    found = [frames.bring(n, places[part]) for n, part in enumerate(of_parts(masks, classes))]
    rows = np.concatenate(found) if found else np.zeros((0, 2))
    if len(np.unique(rows, axis=0)) < regions:
        return None
    chosen = np.random.default_rng(seed).choice(len(rows), min(FITTED_PLACES, len(rows)), replace=False)
    return KMeans(regions, n_init=10, random_state=seed).fit(rows[chosen]).cluster_centers_


def assign_in_frame(frames: Frames, centres: Floats, side: int) -> NDArray[np.int64]:
    """The nearest centre of each pixel in the frame of its face, (n, side, side)."""
    places = grid_places(side)
    found = np.empty((len(frames.shift), side, side), np.int64)
    length = (centres**2).sum(-1)
    for n in range(len(found)):
        # the nearest centre c of x has the largest 2 x·c - |c|², which is linear in the place
        slopes, shift = 2 * frames.matrix[n].T @ centres.T, 2 * frames.shift[n] @ centres.T - length
        found[n] = (places @ slopes + shift).argmax(-1)
    return found


def grid_places(side: int) -> Floats:
    """Middle x, y of each pixel as a share of the side, (side, side, 2)."""
    axis = (np.arange(side) + 0.5) / side
    y, x = np.meshgrid(axis, axis, indexing="ij")
    return np.stack([x, y], -1)


def of_parts(masks: NDArray[np.uint8], classes: Sequence[str]) -> NDArray[np.bool_]:
    """Which pixels are brows, eyes, nose or mouth, (n, M, M)."""
    return np.isin(masks, [k for k, name in enumerate(classes) if name in FACIAL_PARTS])
