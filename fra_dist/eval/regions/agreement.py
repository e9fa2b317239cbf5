"""How well regions agree with the parts of a face.

Every pixel belongs to the region with the largest similarity, after the similarities were upsampled bilinearly to the
size of the mask. All images are counted into one table of regions against classes, and the scores follow from the table
alone: a region that means another part in every image scores low.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from fra_dist.eval.scores import metrics
from fra_dist.eval.scores.metrics import Table
from fra_dist.synthetic import REGION_NAMES

IGNORE = 255
"""Mask value of pixels that do not count."""
MASK_CLASSES = REGION_NAMES
"""Names of the values 0 to 6 of the synthetic masks."""
FACIAL_PARTS = ("brows", "eyes", "nose", "mouth")
IN_USE = 0.01
"""Least share of the pixels that a region in use holds."""


@dataclass(frozen=True)
class Agreement:
    """How well regions agree with one set of classes."""

    nmi: float
    """Normalised mutual information of regions and classes."""
    ari: float
    """Adjusted Rand index of regions and classes."""
    miou: float
    """Mean IoU after one-to-one (Hungarian) matching; a class that got no region counts 0."""
    miou_majority: float
    """Mean IoU when every region takes the name of its most frequent class."""
    iou: dict[str, float]
    """IoU of each class, by name, after one-to-one matching."""

    def to_json(self) -> dict[str, Any]:
        """The scores as plain values, for the results."""
        return {**self.__dict__, "iou": dict(self.iou)}


@dataclass(frozen=True)
class RegionScores:
    """The scores of regions against masks."""

    everything: Agreement
    """Agreement over all classes and pixels."""
    parts: Agreement | None
    """Agreement over the pixels of brows, eyes, nose and mouth only; None when the classes have none of these names."""
    shares: list[float]
    """(Q,) share of all counted pixels that each region holds."""
    in_use: int
    """Number of regions that hold at least IN_USE of the pixels."""

    def to_json(self) -> dict[str, Any]:
        """The scores as plain values, for the results."""
        parts = self.parts.to_json() if self.parts else None
        return {"all": self.everything.to_json(), "parts": parts, "shares": self.shares, "in_use": self.in_use}


@dataclass
class RegionTally:
    """Counts regions against classes, a batch at a time; memory does not grow with the images."""

    regions: int
    """Q, the number of regions."""
    classes: Sequence[str] = MASK_CLASSES
    """Names of the classes, in the order of their numbers."""
    table: Table = field(init=False)
    """(Q, L) pixels counted so far, by region and class."""

    def __post_init__(self) -> None:
        self.table = np.zeros((self.regions, len(self.classes)), np.int64)

    def add(self, assignment: NDArray[Any], mask: NDArray[Any]) -> None:
        """Count two integer arrays of one shape, region and class of each pixel; classes outside the known ones are
        ignored.

        Raises ValueError when the shapes differ.
        """
        if assignment.shape != mask.shape:
            raise ValueError(f"regions have shape {assignment.shape}, the mask {mask.shape}")
        width = len(self.classes)
        counted = mask < width  # IGNORE among the rest
        cells = assignment[counted].astype(np.int64) * width + mask[counted]
        self.table += np.bincount(cells, minlength=self.table.size).reshape(self.table.shape)

    def scores(self) -> RegionScores:
        """The scores of everything counted so far."""
        parts = [i for i, name in enumerate(self.classes) if name in FACIAL_PARTS]
        shares = self.table.sum(1) / max(self.table.sum(), 1)
        return RegionScores(
            everything=_agreement(self.table, self.classes),
            parts=_agreement(self.table[:, parts], [self.classes[i] for i in parts]) if parts else None,
            shares=[round(float(share), 6) for share in shares],
            in_use=int((shares >= IN_USE).sum()),
        )


def assign(similarity: Tensor, size: tuple[int, int]) -> NDArray[np.int64]:
    """The region of each pixel, (B, *size), from similarities or heatmaps (B, Q, H, W) upsampled to that size."""
    larger = functional.interpolate(similarity.float(), size=size, mode="bilinear", align_corners=False)
    best, found = larger[:, 0].clone(), torch.zeros(len(larger), *size, dtype=torch.int64, device=larger.device)
    for q in range(1, larger.shape[1]):  # argmax over a dimension that is not the last is ten times as slow on a CPU
        found.masked_fill_(larger[:, q] > best, q)
        torch.maximum(best, larger[:, q], out=best)
    return found.cpu().numpy()


def score_similarity(
    similarity: Tensor, masks: Sequence[NDArray[np.uint8]], classes: Sequence[str] = MASK_CLASSES, batch: int = 64
) -> RegionScores:
    """Score (N, Q, H, W) similarities against N masks, each (h, w); sizes may differ from mask to mask."""
    tally = RegionTally(similarity.shape[1], classes)
    for start in range(0, len(masks), batch):
        some = masks[start : start + batch]
        if len({mask.shape for mask in some}) == 1:
            tally.add(assign(similarity[start : start + batch], _size(some[0])), np.stack(some))
            continue
        for offset, mask in enumerate(some):
            tally.add(assign(similarity[start + offset :][:1], _size(mask))[0], mask)
    return tally.scores()


def position_clusters(regions: int, weight: NDArray[np.float64] | None = None, grid: int = 64, seed: int = 0) -> Tensor:
    """k-means on pixel position: (1, Q, grid, grid) similarities (negative squared distance, in sides of the image).

    This is the floor that any method has to pass: it knows that faces are centred, and nothing else. With `weight`
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
    """In how many of the masks each place is brow, eye, nose or mouth, (grid, grid)."""
    parts = [i for i, name in enumerate(classes) if name in FACIAL_PARTS]
    total = np.zeros((grid, grid))
    for mask in masks:
        rows, columns = (np.arange(grid) * side // grid for side in mask.shape)
        total += np.isin(mask[rows[:, None], columns], parts)
    return total


def feature_clusters(maps: Tensor, regions: int, seed: int = 0, sample: int = 16384) -> Tensor:
    """k-means on pixel features: maps (N, C, H, W) -> similarities (N, Q, H, W), largest for the nearest centre.

    This is how networks without a region decoder get regions. Features are made unit length; the centres come from at
    most `sample` pixels drawn from all images, and no label is used.
    """
    return closeness_to(maps, fit_clusters(maps, regions, seed, sample))


def fit_clusters(maps: Tensor, regions: int, seed: int = 0, sample: int = 16384) -> Tensor:
    """Centres (Q, C) of k-means on the unit-length pixels of maps (N, C, H, W), from at most `sample` of them."""
    from sklearn.cluster import KMeans

    pixels = functional.normalize(maps.float(), dim=1).permute(0, 2, 3, 1).reshape(-1, maps.shape[1])
    chosen = np.random.default_rng(seed).choice(len(pixels), min(sample, len(pixels)), replace=False)
    fitted = KMeans(regions, n_init=4, random_state=seed % 2**32).fit(pixels[chosen].numpy())
    return torch.from_numpy(fitted.cluster_centers_.astype(np.float32))


def closeness_to(maps: Tensor, centres: Tensor) -> Tensor:
    """Similarities (N, Q, H, W) of maps (N, C, H, W) with centres (Q, C): 1 less the squared distance."""
    unit = functional.normalize(maps.float(), dim=1)
    # |u - c|^2 = 1 - 2 u.c + |c|^2: linear in u, so upsampling it is upsampling the distance.
    closeness = torch.einsum("nchw,qc->nqhw", unit, centres)
    return 2 * closeness - centres.pow(2).sum(1)[None, :, None, None]


def _agreement(table: Table, names: Sequence[str]) -> Agreement:
    if not table.any():
        nan = float("nan")
        return Agreement(nan, nan, nan, nan, {})
    owned, majority = metrics.match_one_to_one(table)[1], metrics.match_by_majority(table)
    iou: Mapping[str, float] = {n: float(v) for n, v in zip(names, owned, strict=True) if not np.isnan(v)}
    return Agreement(
        nmi=metrics.normalised_mutual_information(table),
        ari=metrics.adjusted_rand(table),
        miou=float(np.nanmean(owned)),
        miou_majority=float(np.nanmean(majority)),
        iou=dict(iou),
    )


def _size(mask: NDArray[Any]) -> tuple[int, int]:
    return mask.shape[0], mask.shape[1]
