"""The batch that the loader gives the trainer: views, sample ids, and how the views lie in their photos."""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


@dataclass(frozen=True)
class Geometry:
    """How the V views of B photos lie in the photos: V is 2, plus the number of local views."""

    boxes: NDArray[np.int32]
    """(V, B, 4): x0, y0, x1, y1 of each crop in pixels of the upright photo; x1 and y1 are exclusive."""
    flips: NDArray[np.bool_]
    """(V, B): whether the view was mirrored left to right after the crop."""
    heights: NDArray[np.int32]
    """(B,): heights of the upright photos, in pixels."""
    widths: NDArray[np.int32]
    """(B,): widths of the upright photos, in pixels."""


@dataclass(frozen=True)
class BadSample:
    """A sample that could not be used, with the names by which the owner of the shards can find it."""

    id: int
    """Sample id, counted through all shards in manifest order."""
    shard: str
    """File name of the shard that holds the sample."""
    key: str
    """WebDataset key of the sample in its shard."""
    reason: str
    """Why the sample cannot be used, in a few words."""


@dataclass(frozen=True)
class Batch:
    """This rank's share of a global batch: B = G / world photos in two views, plus local views where configured."""

    step: int
    """The step that this batch is for, from 0."""
    epoch: int
    """Epoch of the first sample of the global batch; `epochs` has the epoch of each sample."""
    ids: NDArray[np.int64]
    """(B,): ids of the samples used, with substitutes in place of bad ones."""
    planned: NDArray[np.int64]
    """(B,): ids that the plan asked for; they differ from `ids` where a sample was bad."""
    epochs: NDArray[np.int64]
    """(B,): epoch of each sample."""
    views: tuple[Tensor, ...]
    """One tensor per view, (B, 3, S, S), normalised, on the device; S is `data.image_size` for the first two and
    `data.local_size` for the local views. float32, or bfloat16 on a GPU where a step computes in it."""
    geometry: Geometry
    """How the views lie in their photos."""
    quarantined: tuple[BadSample, ...] = ()
    """Bad samples that this rank met for the first time while preparing this batch."""
    ready: torch.cuda.Event | None = None
    """Recorded on the stream that makes the views, after them; None on a CPU. The loader has let the stream that is
    current where `next` was called wait for it."""
