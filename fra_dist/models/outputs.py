"""What the networks make of images.

Legend of every shape in this package: B images of this rank, C backbone channels, H×W map, Q regions, D width of the
embeddings, K hidden width of the heads.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any, Self

from torch import Tensor


@dataclass(frozen=True)
class NetworkOutput:
    """What a network makes of one view. The local half is None without a decoder (plain BYOL)."""

    features: Tensor
    """(B, C, H, W) backbone map."""
    global_embedding: Tensor
    """(B, D)"""
    pixels: Tensor | None = None
    """(B, D, H, W) pixel projections, not normalised."""
    mask_embedding: Tensor | None = None
    """(B, Q, D) of each image, before the mean over images."""
    prototypes: Tensor | None = None
    """(Q, D) mean mask embedding over all images of all ranks; (V, Q, D) of V views end to end."""
    similarity: Tensor | None = None
    """(B, Q, H, W) cosines, fp32."""
    local_embedding: Tensor | None = None
    """(B, Q, D)"""

    def chunk(self, count: int) -> tuple[Self, ...]:
        """Of `count` views whose images lie end to end, each view's."""
        parts: dict[str, Sequence[Any]] = {}
        for name, tensor in ((f.name, getattr(self, f.name)) for f in fields(self)):
            if tensor is None or (name == "prototypes" and tensor.dim() == 2):
                parts[name] = [tensor] * count
            else:
                parts[name] = tensor.unbind() if name == "prototypes" else tensor.chunk(count)
        return tuple(type(self)(**{n: some[i] for n, some in parts.items()}) for i in range(count))


@dataclass(frozen=True)
class Inference:
    """What a network in eval mode says of images; the local half is None without a decoder."""

    features: Tensor
    """(B, C, H, W)"""
    embedding: Tensor
    """(B, D) global projection."""
    similarity: Tensor | None = None
    """(B, Q, H, W) cosine of each pixel with each prototype."""
    heatmap: Tensor | None = None
    """(B, Q, H, W) soft assignment of each pixel to the regions."""
    local_embedding: Tensor | None = None
    """(B, Q, D)"""


@dataclass(frozen=True)
class FRAOutput:
    """Both networks on both views, and the predictors on the online embeddings. Target tensors carry no gradient."""

    online: tuple[NetworkOutput, NetworkOutput]
    target: tuple[NetworkOutput, NetworkOutput]
    prediction: tuple[Tensor, ...]
    """(B, D) an online view: the two, then the local views."""
    local_prediction: tuple[Tensor, ...] | None
    """(B, Q, D) an online view."""
    local_views: tuple[NetworkOutput, ...] = ()
    """The online network on each local view; they have no mask embeddings."""
