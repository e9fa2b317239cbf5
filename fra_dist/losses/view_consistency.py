"""Agreement across views, of whole images (global) and of regions (local), and decorrelation of an image's regions.

BYOL's loss (arXiv 2006.07733) on both levels, as FRA (arXiv 2403.02138) uses it. Instead of agreement, regions can be
told from the same region in other photos (InfoNCE, arXiv 1807.03748). B images, Q regions, D width.
"""

import torch
from torch import Tensor

from fra_dist.distributed import SINGLE, CrossRank
from fra_dist.kernels.agreement import unit, unit_consistency, unit_decorrelation


def consistency(prediction: Tensor, target: Tensor) -> Tensor:
    """BYOL's loss, the mean over rows of 2 − 2 cos(prediction, target): (..., D) twice -> 0-dim, in [0, 4].

    No gradient flows to `target`.
    """
    return unit_consistency(unit(prediction), unit(target.detach()))


def decorrelation(prediction: Tensor, target: Tensor) -> Tensor:
    """Similarity of different regions, the mean over images and q of (1/Q) Σ_{k≠q} cos²(prediction_q, target_k).

    (B, Q, D) twice -> 0-dim. It pushes the regions of one image apart; no gradient flows to `target`.
    """
    return unit_decorrelation(unit(prediction), unit(target.detach()))


def contrast(prediction: Tensor, target: Tensor, temperature: float, cross: CrossRank = SINGLE) -> Tensor:
    """InfoNCE of each region against the same region in other photos: (B, Q, D) twice -> (B, Q).

    It is −log softmax over the photos b' of all ranks of cos(prediction_bq, target_b'q)/τ at b' = b, with τ the
    temperature. A region is distinguished from the same region of other photos, so encoding which region it is gains
    nothing. No gradient flows to `target`.
    """
    own, others = unit(prediction), cross.gather(unit(target.detach()))
    logits = torch.einsum("bqd,nqd->bqn", own, others) / temperature
    first = cross.rank * len(own)
    return logits.logsumexp(dim=2) - logits[:, :, first : first + len(own)].diagonal(dim1=0, dim2=2).T


def less_mean(embedding: Tensor, cross: CrossRank = SINGLE) -> Tensor:
    """The embeddings (B, Q, D) less each region's mean over the photos of all ranks, of the same shape."""
    return embedding - cross.mean(embedding.mean(dim=0))
