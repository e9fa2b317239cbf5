"""Which regions a view holds, and agreement of only those regions that both views hold.

A crop may leave a region out: its feature is then a mean over pixels that belong to other regions, and teaches that
they are alike. B images of this rank, Q regions, D width, H×W map.
"""

import torch
from torch import Tensor

from fra_dist.distributed import SINGLE, CrossRank
from fra_dist.losses.view_consistency import unit


@torch.no_grad()
def held_regions(similarity: Tensor, share: float) -> Tensor:
    """The regions that each image holds, (B, Q) bool: those that at least `share` of its pixels are most similar to.

    similarity: (B, Q, H, W).
    """
    numbers = torch.arange(similarity.shape[1], device=similarity.device).view(-1, 1, 1)
    part = (similarity.argmax(dim=1, keepdim=True) == numbers).to(similarity.dtype).mean(dim=(2, 3))
    return part >= share


def matched_mean(apart: Tensor, matched: Tensor, cross: CrossRank = SINGLE) -> Tensor:
    """Mean of `apart` over the (image, region) pairs of all ranks where `matched` is set.

    (B, Q) and (B, Q) bool -> 0-dim, this rank's part times the number of ranks, so that the mean over ranks is the
    whole; it is 0 when there is no such pair.
    """
    weight = matched.to(apart.dtype)
    count = cross.mean(weight.sum()).clamp_min(1 / cross.world)
    return (apart * weight).sum() / count


def matched_consistency(prediction: Tensor, target: Tensor, matched: Tensor, cross: CrossRank = SINGLE) -> Tensor:
    """The `matched_mean` of 2 − 2 cos(prediction, target): (B, Q, D) twice and (B, Q) bool -> 0-dim.

    No gradient flows to `target`.
    """
    apart = 2 - 2 * (unit(prediction) * unit(target.detach())).sum(dim=-1)
    return matched_mean(apart, matched, cross)
