"""Semantic relation: the online network assigns pixels to regions as the target network, balanced, does.

    P = Sinkhorn(softmax(s_target/τ_t))                                  each region gets 1/Q of the pixels of the batch
    cross-entropy = mean over pixels of −Σ_q P_q log softmax(s_online/τ_s)_q
    entropy gap   = log Q − entropy of the mean online assignment        0 when regions are used equally

from FRA (arXiv 2403.02138). Both networks see the same view; or, with the places of the views, P is the other view's,
carried over to the pixels that both show (`geometry.py`), and the cross-entropy is the mean over those. The first is
`kernels/relation/`; here is what the places add. V views, B images of this rank, Q regions, H×W map.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from fra_dist.distributed import SINGLE, CrossRank
from fra_dist.kernels import relation as kernel
from fra_dist.losses.geometry import Placement, across_views


@dataclass(frozen=True)
class RelationTerms:
    """The terms of the semantic relation for each view, (V,)."""

    cross_entropy: Tensor
    """(V,) mean cross-entropy of the online assignment against the balanced target assignment,
    of this rank's pixels."""
    entropy_gap: Tensor
    """(V,) log Q less the entropy of the mean online assignment over all ranks."""
    share: Tensor
    """(V, Q) part of all pixels whose most similar region is q, over all ranks; no gradient."""
    overlap: Tensor | None = None
    """0-dim: part of the pixels that both views show; None without a placement."""


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
    """The two terms of the semantic relation, not yet summed, from similarities (V, B, Q, H, W) of both networks.

    student, teacher: of the online and of the target network; rounds: Sinkhorn's; placement: follow the other view's
    assignment (V = 2). The cross-entropy is this rank's; what is balanced and what is averaged is so over all ranks.
    """
    if placement is None:
        temperatures = {"student_temperature": student_temperature, "teacher_temperature": teacher_temperature}
        return RelationTerms(*kernel.semantic_relation(student, teacher, **temperatures, rounds=rounds, cross=cross))
    assignment = balanced_assignment(teacher.flatten(3), teacher_temperature, rounds, cross).unflatten(
        3, teacher.shape[3:]
    )
    targets, known, overlap = across_views(assignment, placement)
    student = student.flatten(3)
    log_student = functional.log_softmax(student / student_temperature, dim=2)
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


def balanced_assignment(similarity: Tensor, temperature: float, rounds: int, cross: CrossRank = SINGLE) -> Tensor:
    """Softmax over q of similarities (V, B, Q, pixels), then Sinkhorn rounds over all pixels of all ranks; same shape.

    A round scales every region to 1/Q of the mass, then every pixel to 1, see `kernels/relation/`.
    """
    return kernel.balanced_assignment(similarity, temperature, rounds, cross)
