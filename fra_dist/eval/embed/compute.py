"""The arrays of one batch of photos. B photos, C channels, Q regions, D width, H×W map."""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from fra_dist.errors import CheckpointError
from fra_dist.eval.features.encoder import Encoder

KINDS = ("embeddings", "regions", "heatmaps")
ABOUT = {
    "pooled": "mean over the backbone's map",
    "projected": "global projection of the pooled features",
    "regions": "local projection of each region's features",
    "heatmaps": "soft assignment of each cell of the map to the regions",
}
"""What each array holds, in words, for the manifest."""


def check_kinds(encoder: Encoder, what: Sequence[str]) -> None:
    """Check that the network can give what is asked for.

    Raises CheckpointError when it has no regions and `what` asks for regions or heatmaps.
    """
    wanted = [kind for kind in what if kind != "embeddings"]
    if wanted and not encoder.has_regions:
        raise CheckpointError(f"{encoder.name} has no region decoder, so no {wanted[0]}: use --what embeddings")


@torch.inference_mode()
def compute(
    encoder: Encoder, photos: NDArray[np.uint8], what: Sequence[str], dtype: np.dtype[np.floating]
) -> dict[str, NDArray[np.floating]]:
    """The arrays of photos (B, S, S, 3): pooled (B, C) and projected (B, D), regions (B, Q, D), heatmaps (B, Q, H, W).

    what: any of embeddings, regions and heatmaps; dtype: of the arrays, whose values are clipped to its range.
    """
    images, network = encoder.pixels(photos), encoder.network
    found: dict[str, torch.Tensor | None] = {}
    if network is not None and set(what) - {"embeddings"}:
        inferred = network.infer(images)
        if "embeddings" in what:
            found |= {"pooled": inferred.features.mean((2, 3)), "projected": inferred.embedding}
        found |= {"regions": inferred.local_embedding} if "regions" in what else {}
        found |= {"heatmaps": inferred.heatmap} if "heatmaps" in what else {}
    else:
        pooled = encoder.backbone(images).mean((2, 3))
        found["pooled"] = pooled
        if network is not None:
            found["projected"] = network.projector(pooled)
    limit = float(np.finfo(dtype).max)
    arrays = {name: value.float().cpu().numpy() for name, value in found.items() if value is not None}
    return {name: np.clip(array, -limit, limit).astype(dtype) for name, array in arrays.items()}
