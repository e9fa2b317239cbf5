"""Which region each pixel belongs to, and regions that k-means finds in places or in features.

Every pixel belongs to the region with the largest similarity, after the similarities were upsampled bilinearly to the
size of the mask. `eval/region_tables.py` counts regions against true classes.
"""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from fra_dist.synthetic import REGION_NAMES

MASK_CLASSES = REGION_NAMES
"""Names of the values 0 to 6 of the synthetic masks."""
FACIAL_PARTS = ("brows", "eyes", "nose", "mouth")
IN_USE = 0.01
"""A region is in use when at least this share of the pixels is its own."""


def assign(similarity: Tensor, size: tuple[int, int]) -> NDArray[np.int64]:
    """(B, Q, H, W) similarities or heatmaps to the region of each pixel, (B, *size)."""
    larger = functional.interpolate(similarity.float(), size=size, mode="bilinear", align_corners=False)
    best, found = larger[:, 0].clone(), torch.zeros(len(larger), *size, dtype=torch.int64, device=larger.device)
    for q in range(1, larger.shape[1]):  # argmax over a dimension that is not the last is ten times as slow on a CPU
        found.masked_fill_(larger[:, q] > best, q)
        torch.maximum(best, larger[:, q], out=best)
    return found.cpu().numpy()


def position_clusters(regions: int, weight: NDArray[np.float64] | None = None, grid: int = 64, seed: int = 0) -> Tensor:
    """k-means on pixel position: (1, Q, grid, grid) similarities (negative squared distance, in sides of the image).

    The floor that any method has to pass: it knows that faces are centred, and nothing else. With `weight`
    (grid, grid), for example `part_density`, the clusters share out the weighted pixels: a stronger floor, as the
    weight tells it where to look.
    """
    from sklearn.cluster import KMeans

    axis = (np.arange(grid) + 0.5) / grid
    places = np.stack(np.meshgrid(axis, axis, indexing="ij"), -1).reshape(-1, 2)
    each = None if weight is None else weight.reshape(-1)
    centres = KMeans(regions, n_init=10, random_state=seed % 2**32).fit(places, sample_weight=each).cluster_centers_
    distance = ((places[None] - centres[:, None]) ** 2).sum(-1)
    return torch.from_numpy(-distance.reshape(1, regions, grid, grid).astype(np.float32))


def part_density(
    masks: Sequence[NDArray[np.uint8]], classes: Sequence[str] = MASK_CLASSES, grid: int = 64
) -> NDArray[np.float64]:
    """(grid, grid): in how many of the masks a place is brow, eye, nose or mouth."""
    parts = [i for i, name in enumerate(classes) if name in FACIAL_PARTS]
    total = np.zeros((grid, grid))
    for mask in masks:
        rows, columns = ((2 * np.arange(grid) + 1) * side // (2 * grid) for side in mask.shape)
        total += np.isin(mask[rows[:, None], columns], parts)
    return total


def fit_clusters(maps: Tensor, regions: int, seed: int = 0, sample: int = 16384) -> Tensor:
    """(Q, C) centres of k-means on the unit-length pixels of (N, C, H, W) maps, from at most `sample` of them.

    How networks without a region decoder get regions, with `closeness_to`; no label is used.
    """
    from sklearn.cluster import KMeans

    pixels = functional.normalize(maps.float(), dim=1).permute(0, 2, 3, 1).reshape(-1, maps.shape[1])
    chosen = np.random.default_rng(seed).choice(len(pixels), min(sample, len(pixels)), replace=False)
    fitted = KMeans(regions, n_init=4, random_state=seed % 2**32).fit(pixels[chosen].numpy())
    return torch.from_numpy(fitted.cluster_centers_.astype(np.float32))


def closeness_to(maps: Tensor, centres: Tensor) -> Tensor:
    """(N, C, H, W) maps and (Q, C) centres to (N, Q, H, W) similarities: 1 less the squared distance."""
    unit = functional.normalize(maps.float(), dim=1)
    # |u - c|^2 = 1 - 2 u.c + |c|^2: linear in u, so upsampling it is upsampling the distance.
    closeness = torch.einsum("nchw,qc->nqhw", unit, centres)
    return 2 * closeness - centres.pow(2).sum(1)[None, :, None, None]
