"""What the networks compute from images, as dataclasses.

Legend of every shape in this package: B images of this rank, C backbone channels, H×W map, Q regions, D width of the
embeddings, K hidden width of the heads.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any, Self

from torch import Tensor


@dataclass(frozen=True)
class NetworkOutput:
    """What a network computes from one view. The local half is None without a decoder (plain BYOL)."""

    features: Tensor
    """(B, C, H, W) map of the backbone."""
    global_embedding: Tensor
    """(B, D) projection of the mean over the map."""
    pixels: Tensor | None = None
    """(B, D, H, W) pixel projections, not normalised."""
    mask_embedding: Tensor | None = None
    """(B, Q, D) mask embeddings of each image, before the mean over images."""
    prototypes: Tensor | None = None
    """(Q, D) mean mask embedding over all images of all ranks, or (V, Q, D) of V views end to end."""
    similarity: Tensor | None = None
    """(B, Q, H, W) cosines of the pixels with the prototypes, fp32."""
    local_embedding: Tensor | None = None
    """(B, Q, D) projections of the regions' features."""

    def chunk(self, count: int) -> tuple[Self, ...]:
        """The outputs of `count` views whose images lie end to end, one for each view."""
        parts: dict[str, Sequence[Any]] = {}
        for name, tensor in ((f.name, getattr(self, f.name)) for f in fields(self)):
            if tensor is None or (name == "prototypes" and tensor.dim() == 2):
                parts[name] = [tensor] * count
            else:
                parts[name] = tensor.unbind() if name == "prototypes" else tensor.chunk(count)
        return tuple(type(self)(**{n: some[i] for n, some in parts.items()}) for i in range(count))


@dataclass(frozen=True)
class Inference:
    """What a network in eval mode computes from images. The local half is None without a decoder."""

    features: Tensor
    """(B, C, H, W) map of the backbone."""
    embedding: Tensor
    """(B, D) global projection, of the mean over the map."""
    similarity: Tensor | None = None
    """(B, Q, H, W) cosine of each pixel with each prototype."""
    heatmap: Tensor | None = None
    """(B, Q, H, W) soft assignment of each pixel to the regions."""
    local_embedding: Tensor | None = None
    """(B, Q, D) projections of the regions' features."""


@dataclass(frozen=True)
class FRAOutput:
    """Both networks on both views, and the predictors on the online embeddings. Target tensors carry no gradient."""

    online: tuple[NetworkOutput, NetworkOutput]
    """The online network's outputs on the two views."""
    target: tuple[NetworkOutput, NetworkOutput]
    """The target network's outputs on the two views, without gradient."""
    prediction: tuple[Tensor, ...]
    """(B, D) predictions of the global embeddings of each online view: the two whole views, then the local views."""
    local_prediction: tuple[Tensor, ...] | None
    """(B, Q, D) predictions of the local embeddings of each online view; None without regions."""
    local_views: tuple[NetworkOutput, ...] = ()
    """The online network's outputs on each local view; they have no mask embeddings."""
