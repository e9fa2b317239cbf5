"""Semantic relation: the online network assigns pixels to regions as the target network, balanced, does.

    P = Sinkhorn(softmax(t/τ_t))                                    each region gets 1/Q of the pixels of the batch
    cross-entropy = mean over pixels of −Σ_q P_q log softmax(s/τ_s)_q
    entropy gap   = log Q + Σ_q m_q log m_q,   m = mean over pixels of softmax(s/τ_s)

from FRA (arXiv 2403.02138), s and t being similarities of the online and of the target network. P is softmax(t/τ_t + b)
throughout: a Sinkhorn round is b ← b − log(mean over pixels of that), so only Q numbers a view cross ranks. With
p = softmax(s/τ_s), N pixels of this rank, and g_q = (log m_q + 1) times the gap's gradient:

    ds_q = (d cross-entropy (p_q − P_q) + p_q (g_q − Σ_k p_k g_k)) / (N τ_s)

V views, B images of this rank, Q regions, H×W map.
"""

import math
from typing import Any

import torch
from torch import Tensor

from fra_dist.kernels import dispatch
from fra_dist.kernels.relation.reference import Reference, logits
from fra_dist.types import CrossRank

KERNEL = dispatch.register("relation")
MOST_REGIONS = 64
_DTYPES = (torch.float32, torch.bfloat16, torch.float16)


def semantic_relation(
    student: Tensor,
    teacher: Tensor,
    *,
    student_temperature: float,
    teacher_temperature: float,
    rounds: int,
    cross: CrossRank,
) -> tuple[Tensor, Tensor, Tensor]:
    """The terms of the semantic relation: cross-entropy (V,) of this rank, entropy gap (V,) of all ranks, and shares
    (V, Q).

    The shares are the part of all pixels whose most similar region is q, without gradient. All are fp32, or float64 for
    float64 inputs. student, teacher: (V, B, Q, H, W) similarities; the teacher gets no gradient. rounds: Sinkhorn's.
    Differentiable once. Every rank holds equally many pixels. Raises ValueError for shapes that do not fit together,
    and ConfigError if the Triton kernels are insisted on (`dispatch.force`) and cannot take the call.
    """
    if student.dim() < 4 or student.shape != teacher.shape:
        raise ValueError(
            f"semantic_relation takes two (V, B, Q, H, W), not {tuple(student.shape)} and {tuple(teacher.shape)}"
        )
    triton = dispatch.use_triton(KERNEL, _obstacle(student, teacher), on_gpu=student.is_cuda)
    exact = torch.promote_types(student.dtype, torch.float32)
    student, teacher = student.flatten(3), teacher.detach().flatten(3)
    if not triton:
        student, teacher = student.to(exact), teacher.to(exact)
    bias = _balance(teacher, teacher_temperature, rounds, cross, triton)
    return _Terms.apply(student, teacher, bias, student_temperature, teacher_temperature, cross, triton)


@torch.no_grad()
def balanced_assignment(similarity: Tensor, temperature: float, rounds: int, cross: CrossRank) -> Tensor:
    """The balanced assignment P: softmax over q of similarities (V, B, Q, pixels), then Sinkhorn rounds over all ranks.

    Returns a tensor of the same shape, fp32 or float64. Raises as `semantic_relation` does.
    """
    if similarity.dim() != 4:
        raise ValueError(f"balanced_assignment takes (V, B, Q, pixels), not {tuple(similarity.shape)}")
    triton = dispatch.use_triton(KERNEL, _obstacle(similarity, similarity), on_gpu=similarity.is_cuda)
    exact = similarity.to(torch.promote_types(similarity.dtype, torch.float32))
    bias = _balance(similarity if triton else exact, temperature, rounds, cross, triton)
    return torch.softmax(logits(exact, temperature, bias), dim=2)


@torch.no_grad()
def _balance(teacher: Tensor, temperature: float, rounds: int, cross: CrossRank, triton: bool) -> Tensor:
    """The bias b after the rounds, (V, Q)."""
    parts = _parts(triton)
    bias = teacher.new_zeros(
        (teacher.shape[0], teacher.shape[2]), dtype=torch.promote_types(teacher.dtype, torch.float32)
    )
    for _ in range(rounds):
        bias = parts.shift(bias, cross.mean(parts.mass(teacher, bias, temperature)))
    return bias


class _Terms(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, student: Tensor, teacher: Tensor, bias: Tensor, student_temperature: float,
        teacher_temperature: float, cross: CrossRank, triton: bool,
    ) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
        means = _parts(triton).terms(student, teacher, bias, student_temperature, teacher_temperature)
        regions = bias.shape[1]
        mean, share = cross.mean(means[:, 1:].contiguous()).split(regions, dim=1)
        gap = math.log(regions) + (mean * mean.clamp_min(torch.finfo(mean.dtype).tiny).log()).sum(dim=1)
        ctx.temperatures, ctx.cross, ctx.triton = (student_temperature, teacher_temperature), cross, triton
        ctx.save_for_backward(student, teacher, bias, mean)
        share = share.clone()
        ctx.mark_non_differentiable(share)
        return means[:, 0].clone(), gap, share

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Any, ...]:
        student, teacher, bias, mean = ctx.saved_tensors
        tiny = torch.finfo(mean.dtype).tiny
        slope = (mean.clamp_min(tiny).log() + (mean >= tiny)) * ctx.cross.mean(grads[1].contiguous())[:, None]
        gradient = _parts(ctx.triton).gradient(student, teacher, bias, grads[0], slope, *ctx.temperatures)
        return gradient, None, None, None, None, None, None


def _parts(triton: bool) -> Any:
    if triton:
        from fra_dist.kernels.relation.op import Fused  # imports Triton

        return Fused
    return Reference


def _obstacle(student: Tensor, teacher: Tensor) -> str | None:
    """Why the Triton kernels cannot take these tensors; None if they can."""
    if student.device != teacher.device:
        return "tensors on different devices"
    for tensor in (student, teacher):
        if tensor.dtype not in _DTYPES:
            return f"dtype {tensor.dtype}"
    if not 1 <= student.shape[2] <= MOST_REGIONS:
        return f"{student.shape[2]} regions, not 1 to {MOST_REGIONS}"
    if not 0 < student.numel() < 2**31:
        return "no similarities, or 2^31 or more"
    return dispatch.device_obstacle(student.device.type, student.device.index)
