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
"""Largest number of training photos whose pixels k-means is fitted to."""


def regions_of(encoder: Encoder, default: int) -> int:
    """Return the number of regions Q that a network divides a face into.

    default: the number to use for a network that has no regions of its own, such as a plain backbone.
    """
    if encoder.network is not None and encoder.network.has_regions:
        return int(encoder.network.prototypes.shape[0])
    return default


def segmenters(
    encoder: Encoder, photos: NDArray[np.uint8], regions: int, seed: int, ways: Collection[str] = WAYS
) -> dict[str, Segmenter]:
    """Return {way: segmenter} for those of `ways` that need no labels.

    A way is left out when the network cannot give it: `heatmaps` without regions, `random_clusters` when its
    architecture is not known. Ways that need labels (`position_in_parts`, `ceiling`, `face_frame`, `probe`) are made
    elsewhere.

    Args:
        encoder: the network under test.
        photos: (N, S, S, 3) uint8 training photos; k-means is fitted to the pixels of at most FITTED_ON of them.
        regions: number of regions Q of the ways that cluster.
        seed: of k-means, of random directions and of the random network's weights.
        ways: names of ways, as in `settings.WAYS`.
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
    """k-means on the position of pixels inside the facial parts of training masks, the same in every photo.

    masks: N masks (M, M) uint8 of class numbers; classes: names of the L classes; regions: number of clusters Q.
    Returns None when fewer than Q places of the masks belong to brows, eyes, nose or mouth.
    """
    density = part_density(masks, classes)
    if np.count_nonzero(density) < regions:
        return None
    return fixed(position_clusters(regions, density, seed=seed))


def clustered(encoder: Encoder, photos: NDArray[np.uint8], regions: int, seed: int) -> Segmenter:
    """k-means on the pixels of a backbone's map, each scaled to unit length.

    photos: (N, S, S, 3) uint8, which the Q = `regions` centres are fitted to. The segmenter gives similarities
    (n, Q, h, w): 1 less the squared distance of a pixel to each centre.
    """
    centres = fit_clusters(encoder.maps(photos), regions, seed)
    return lambda other: closeness_to(encoder.maps(other), centres)


def prototyped(encoder: Encoder, regions: int, seed: int) -> Segmenter:
    """Similarity to Q = `regions` random directions in place of learned prototypes.

    The segmenter gives the cosines (n, Q, h, w) of the network's pixel projections with directions that are drawn once,
    from a normal distribution, with `seed`.
    """
    width = encoder.projections(np.zeros((1, encoder.size, encoder.size, 3), np.uint8)).shape[1]
    directions = functional.normalize(torch.randn(regions, width, generator=torch.Generator().manual_seed(seed)), dim=1)

    def way(photos: NDArray[np.uint8]) -> Tensor:
        return torch.einsum("ndhw,qd->nqhw", functional.normalize(encoder.projections(photos), dim=1), directions)

    return way


def fixed(similarity: Tensor) -> Segmenter:
    """Return a segmenter that gives every photo the same similarities.

    similarity: (1, Q, h, w); the result is expanded to (n, Q, h, w) for n photos.
    """
    return lambda photos: similarity.expand(len(photos), -1, -1, -1)


def randomised(encoder: Encoder, seed: int) -> Encoder:
    """Return an encoder of the same architecture with newly drawn weights, under the name `random`.

    Its batch norms keep their initial statistics (mean 0, variance 1). It has no heads, so no regions and no
    projections.
    """
    torch.manual_seed(seed + 1)
    stride = int(encoder.about.get("map_stride", 32))
    backbone = build_backbone(str(encoder.about["architecture"]), stride).eval().to(encoder.device)
    return replace(encoder, name="random", backbone=backbone, network=None, fresh=None)
