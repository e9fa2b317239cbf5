"""The kernel's small case, tried before a run trusts the kernel: see `kernels/self_check.py`."""

import torch
from torch import Tensor

from fra_dist.kernels.relation.api import semantic_relation
from fra_dist.kernels.small_cases import Make, backward
from fra_dist.types import SINGLE


def run(make: Make, dtype: torch.dtype) -> list[Tensor]:
    """Results and gradients on small inputs of `dtype`; in float64 the plain path says what is right."""
    student, teacher = make(2, 3, 5, 6, 7, grad=True), make(2, 3, 5, 6, 7)
    cross_entropy, gap, share = semantic_relation(
        student, teacher, student_temperature=0.5, teacher_temperature=0.4, rounds=3, cross=SINGLE
    )
    return [share, *backward([cross_entropy, gap], [student], make)]
