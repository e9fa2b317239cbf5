"""The semantic relation's Triton kernels as PyTorch operators, so that torch.compile takes them without a graph break.

They have no gradient of their own: `api` puts them together for both passes, with the collectives in between.
"""

import torch
from torch import Tensor

from fra_dist.kernels import dispatch
from fra_dist.kernels.operators import device_of, operator
from fra_dist.kernels.relation import launch


@operator("relation_mass")
def mass(teacher: Tensor, bias: Tensor, temperature: float) -> Tensor:
    """Operator for `launch.mass`: the mean share of each region, (V, Q) float64."""
    dispatch.launches["relation_mass"] += 1
    with device_of(teacher):
        return launch.mass(teacher.contiguous(), bias, temperature)


@mass.register_fake
def _(teacher: Tensor, bias: Tensor, temperature: float) -> Tensor:
    return bias.new_empty(bias.shape, dtype=torch.float64)


@operator("relation_shift")
def shift(bias: Tensor, mass: Tensor) -> Tensor:
    """Operator for `launch.shift`: the bias after one Sinkhorn round, (V, Q)."""
    dispatch.launches["relation_shift"] += 1
    with device_of(bias):
        return launch.shift(bias, mass)


@shift.register_fake
def _(bias: Tensor, mass: Tensor) -> Tensor:
    return torch.empty_like(bias)


@operator("relation_terms")
def terms(
    student: Tensor, teacher: Tensor, bias: Tensor, student_temperature: float, teacher_temperature: float
) -> Tensor:
    """Operator for `launch.terms`: cross-entropy, mean shares and shares of first places, (V, 1 + 2 Q) fp32."""
    dispatch.launches["relation_terms"] += 1
    with device_of(student):
        maps = student.contiguous(), teacher.contiguous()
        return launch.terms(*maps, bias, student_temperature, teacher_temperature)


@terms.register_fake
def _(student: Tensor, teacher: Tensor, bias: Tensor, student_temperature: float, teacher_temperature: float) -> Tensor:
    return bias.new_empty((bias.shape[0], 1 + 2 * bias.shape[1]))


@operator("relation_gradient")
def gradient(
    student: Tensor, teacher: Tensor, bias: Tensor, d_cross_entropy: Tensor, slope: Tensor,
    student_temperature: float, teacher_temperature: float,
) -> Tensor:  # fmt: skip
    """Operator for `launch.gradient`: the gradient of the student's similarities."""
    dispatch.launches["relation_gradient"] += 1
    given = d_cross_entropy.contiguous(), slope.contiguous()
    with device_of(student):
        maps = student.contiguous(), teacher.contiguous()
        return launch.gradient(*maps, bias, *given, student_temperature, teacher_temperature)


@gradient.register_fake
def _(
    student: Tensor, teacher: Tensor, bias: Tensor, d_cross_entropy: Tensor, slope: Tensor,
    student_temperature: float, teacher_temperature: float,
) -> Tensor:  # fmt: skip
    return torch.empty_like(student, memory_format=torch.contiguous_format)


class Fused:
    """The passes of `reference.Reference`, computed by the Triton kernels."""

    mass, shift, terms, gradient = staticmethod(mass), staticmethod(shift), staticmethod(terms), staticmethod(gradient)
