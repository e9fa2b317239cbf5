"""What the loader gives the trainer."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor


@dataclass(frozen=True)
class Geometry:
    """How the views of B photos lie in the photos: V = 2, and as many more as there are local views."""

    boxes: NDArray[np.int32]
    """(V, B, 4): x0, y0, x1, y1 in pixels of the upright photo, x1 and y1 exclusive."""
    flips: NDArray[np.bool_]
    """(V, B): mirrored left and right after the crop."""
    heights: NDArray[np.int32]
    widths: NDArray[np.int32]
    """(B,): of the upright photos."""


@dataclass(frozen=True)
class BadSample:
    """A sample that could not be used, by the names under which its owner finds it."""

    id: int
    shard: str
    key: str
    reason: str


@dataclass(frozen=True)
class Batch:
    """This rank's share of a global batch: B = G / world photos in two views, and in local views."""

    step: int
    epoch: int
    """Of the first sample of the global batch; `epochs` has that of each."""
    ids: NDArray[np.int64]
    """(B,): the samples used, substitutes in place of bad ones."""
    planned: NDArray[np.int64]
    """(B,): what the plan asked for; differs from `ids` where a sample was bad."""
    epochs: NDArray[np.int64]
    views: tuple[Tensor, ...]
    """Each (B, 3, S, S) float32, normalised, on the device; S is `data.local_size` from the third on."""
    geometry: Geometry
    quarantined: tuple[BadSample, ...] = ()
    """Bad samples met by this rank for the first time."""
