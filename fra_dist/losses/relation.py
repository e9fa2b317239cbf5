"""Semantic relation: the online network assigns pixels to regions as the target network, balanced, does.

    P = Sinkhorn(softmax(s_target/τ_t))                                  each region gets 1/Q of the pixels of the batch
    cross-entropy = mean over pixels of −Σ_q P_q log softmax(s_online/τ_s)_q
    entropy gap   = log Q − entropy of the mean online assignment        0 when regions are used equally

from FRA (arXiv 2403.02138). Both networks see the same view; or, with the places of the views, P is the other view's,
carried over to the pixels that both show (`geometry.py`), and the cross-entropy is the mean over those. V views,
B images of this rank, Q regions, H×W map.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from fra_dist.dist import SINGLE, CrossRank
from fra_dist.losses.geometry import Placement, across_views


@dataclass(frozen=True)
class RelationTerms:
    """Per view, (V,)."""

    cross_entropy: Tensor
    entropy_gap: Tensor
    share: Tensor
    """(V, Q) part of all pixels whose most similar region is q, over all ranks; no gradient."""
    overlap: Tensor | None = None
    """0-dim: part of the pixels that both views show; with a placement only."""


def semantic_relation(
    student: Tensor,
    teacher: Tensor,
    *,
    student_temperature: float,
    teacher_temperature: float,
    rounds: int,
    cross: CrossRank = SINGLE,
    placement: Placement | None = None,
) -> RelationTerms:
    """Similarities (V, B, Q, H, W) of the online and the target network -> the two terms, not yet summed.

    placement: follow the other view's assignment (V = 2).

    The cross-entropy is this rank's; what is balanced and what is averaged is so over all ranks.
    """
    map_size = teacher.shape[3:]
    student, teacher = student.flatten(3), teacher.detach().flatten(3)
    targets = balanced_assignment(teacher, teacher_temperature, rounds, cross)
    log_student = functional.log_softmax(student / student_temperature, dim=2)
    overlap = None
    if placement is None:
        cross_entropy = -(targets * log_student).sum(dim=2).mean(dim=(1, 2))
    else:
        targets, known, overlap = across_views(targets.unflatten(3, map_size), placement)
        weight = known.flatten(2).to(targets.dtype)
        count = cross.mean(weight.sum(dim=(1, 2)))  # never 0, see across_views
        cross_entropy = -((targets.flatten(3) * log_student).sum(dim=2) * weight).sum(dim=(1, 2)) / count
    numbers = torch.arange(student.shape[2], device=student.device)
    # not one_hot, which looks at the values first
    hard = (student.detach().argmax(dim=2, keepdim=True) == numbers.view(-1, 1)).to(student.dtype).mean(dim=(1, 3))
    mean, share = cross.mean(torch.stack([log_student.exp().mean(dim=(1, 3)), hard])).unbind()
    tiny = torch.finfo(mean.dtype).tiny
    entropy = -(mean * mean.clamp_min(tiny).log()).sum(dim=1)
    return RelationTerms(cross_entropy, math.log(student.shape[2]) - entropy, share.detach(), overlap)


@torch.no_grad()
def balanced_assignment(similarity: Tensor, temperature: float, rounds: int, cross: CrossRank = SINGLE) -> Tensor:
    """Softmax over q of similarities (V, B, Q, pixels), then Sinkhorn rounds over all pixels of all ranks; same shape.

    A round scales every region to 1/Q of the mass, then every pixel to 1. The second step is a softmax: the matrix is
    softmax(s/τ + b) throughout and a round is b −= log(mean over pixels of that): only Q numbers a view cross ranks.
    """
    logits = similarity / temperature
    bias = logits.new_zeros(logits.shape[0], 1, logits.shape[2], 1)
    for _ in range(rounds):
        mass = functional.log_softmax(logits + bias, dim=2).logsumexp(dim=(1, 3), keepdim=True)
        # float64 holds exp(−700): a region that no pixel is near does not become log(0)
        bias = bias - cross.mean(mass.double().exp()).clamp_min(1e-300).log().to(bias.dtype)
    return functional.softmax(logits + bias, dim=2)
