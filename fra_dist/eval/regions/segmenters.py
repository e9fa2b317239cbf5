"""Ways of dividing faces into regions without labels: a network's heatmaps, and what they are compared with."""

from collections.abc import Callable, Collection, Sequence
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from fra_dist.eval.features.encoder import Encoder
from fra_dist.eval.regions.pixel_regions import closeness_to, fit_clusters, part_density, position_clusters
from fra_dist.eval.settings import WAYS
from fra_dist.models.backbone import build_backbone

Segmenter = Callable[[NDArray[np.uint8]], Tensor]
"""Photos (n, S, S, 3) -> similarities (n, Q, h, w); a pixel belongs to the region with the largest."""
HEATMAPS, CLUSTERS, RANDOM = "heatmaps", "clusters", "random_clusters"
RANDOM_PROTOTYPES = "random_prototypes"
POSITION, POSITION_IN_PARTS = "position", "position_in_parts"
FITTED_ON = 500
"""Training photos at most whose pixels k-means sees."""


def regions_of(encoder: Encoder, default: int) -> int:
    """Q of its heatmaps; `default` for a network without regions."""
    if encoder.network is not None and encoder.network.has_regions:
        return int(encoder.network.prototypes.shape[0])
    return default


def segmenters(
    encoder: Encoder, photos: NDArray[np.uint8], regions: int, seed: int, ways: Collection[str] = WAYS
) -> dict[str, Segmenter]:
    """Those of `ways` that need a network or nothing at all, by name; without `heatmaps` for a network that has none.

    k-means is fitted to the pixels of (training) photos; a random network is one of the same architecture.
    """
    some = photos[np.unique(np.linspace(0, len(photos) - 1, min(FITTED_ON, len(photos))).astype(np.int64))]
    makers: dict[str, Callable[[], Segmenter]] = {
        HEATMAPS: lambda: encoder.similarity,
        CLUSTERS: lambda: clustered(encoder, some, regions, seed),
        RANDOM: lambda: clustered(randomised(encoder, seed), some, regions, seed),
        RANDOM_PROTOTYPES: lambda: prototyped(encoder, regions, seed),
        POSITION: lambda: fixed(position_clusters(regions, seed=seed)),
    }
    lacking = {HEATMAPS: not encoder.has_regions, RANDOM: "architecture" not in encoder.about}
    return {name: make() for name, make in makers.items() if name in ways and not lacking.get(name)}


def in_parts(masks: Sequence[NDArray[np.uint8]], classes: Sequence[str], regions: int, seed: int) -> Segmenter | None:
    """k-means on position inside the facial parts of the (training) masks; None when they have too few."""
    density = part_density(masks, classes)
    if np.count_nonzero(density) < regions:
        return None
    return fixed(position_clusters(regions, density, seed=seed))


def clustered(encoder: Encoder, photos: NDArray[np.uint8], regions: int, seed: int) -> Segmenter:
    """k-means on the pixel features of a backbone."""
    centres = fit_clusters(encoder.maps(photos), regions, seed)
    return lambda other: closeness_to(encoder.maps(other), centres)


def prototyped(encoder: Encoder, regions: int, seed: int) -> Segmenter:
    """Random directions in place of prototypes, by their cosine with the network's own pixel projections."""
    width = encoder.projections(np.zeros((1, encoder.size, encoder.size, 3), np.uint8)).shape[1]
    directions = functional.normalize(torch.randn(regions, width, generator=torch.Generator().manual_seed(seed)), dim=1)

    def way(photos: NDArray[np.uint8]) -> Tensor:
        return torch.einsum("ndhw,qd->nqhw", functional.normalize(encoder.projections(photos), dim=1), directions)

    return way


def fixed(similarity: Tensor) -> Segmenter:
    """The same regions in every photo."""
    return lambda photos: similarity.expand(len(photos), -1, -1, -1)


def randomised(encoder: Encoder, seed: int) -> Encoder:
    """A backbone of the same architecture and fresh weights; its batch norms keep their starting statistics."""
    torch.manual_seed(seed + 1)
    stride = int(encoder.about.get("map_stride", 32))
    backbone = build_backbone(str(encoder.about["architecture"]), stride).eval().to(encoder.device)
    return replace(encoder, name="random", backbone=backbone, network=None, fresh=None)
