"""The semantic relation's passes over the pixels in plain PyTorch: they define the result, on any device."""

import torch
from torch import Tensor

LEAST_MASS = 1e-300
"""Smallest mass whose logarithm is taken. float64 holds exp(−700):
a region that no pixel is near does not become log(0)."""


class Reference:
    """The passes over the pixels in plain PyTorch; they define the result. student, teacher: (V, B, Q, pixels)."""

    @staticmethod
    def mass(teacher: Tensor, bias: Tensor, temperature: float) -> Tensor:
        """(V, Q) float64: mean over this rank's pixels of softmax(t/τ + b)."""
        share = torch.log_softmax(logits(teacher, temperature, bias), dim=2)
        return share.logsumexp(dim=(1, 3)).double().exp() / pixels(teacher)

    @staticmethod
    def shift(bias: Tensor, mass: Tensor) -> Tensor:
        """The bias after one Sinkhorn round, (V, Q): bias − log(mass), with the mass kept above LEAST_MASS."""
        return bias - mass.clamp_min(LEAST_MASS).log().to(bias.dtype)

    @staticmethod
    def terms(
        student: Tensor, teacher: Tensor, bias: Tensor, student_temperature: float, teacher_temperature: float
    ) -> Tensor:
        """Cross-entropy, mean of softmax(s/τ_s), and share of the pixels most similar to each region: (V, 1 + 2 Q)."""
        target = torch.softmax(logits(teacher, teacher_temperature, bias), dim=2)
        share = torch.log_softmax(student / student_temperature, dim=2)
        cross_entropy = -(target * share).sum(dim=2).mean(dim=(1, 2))
        numbers = torch.arange(student.shape[2], device=student.device).view(-1, 1)
        first = student.max(dim=2, keepdim=True).indices  # many times faster than argmax on a CPU
        hard = (first == numbers).to(student.dtype)  # not one_hot: it looks at values
        return torch.cat([cross_entropy[:, None], share.exp().mean(dim=(1, 3)), hard.mean(dim=(1, 3))], dim=1)

    @staticmethod
    def gradient(
        student: Tensor, teacher: Tensor, bias: Tensor, d_cross_entropy: Tensor, slope: Tensor,
        student_temperature: float, teacher_temperature: float,
    ) -> Tensor:  # fmt: skip
        """The gradient of the student's similarities, of their shape; slope (V, Q) is the gradient of m."""
        target = torch.softmax(logits(teacher, teacher_temperature, bias), dim=2)
        share = torch.softmax(student / student_temperature, dim=2)
        tilt = slope[:, None, :, None]
        level = (share * tilt).sum(dim=2, keepdim=True)
        whole = d_cross_entropy.view(-1, 1, 1, 1) * (share - target) + share * (tilt - level)
        return whole / (pixels(student) * student_temperature)


def logits(similarity: Tensor, temperature: float, bias: Tensor) -> Tensor:
    """The logits t/τ + b of the assignment: similarities (V, B, Q, pixels), bias (V, Q) -> (V, B, Q, pixels)."""
    return similarity / temperature + bias[:, None, :, None]


def pixels(similarity: Tensor) -> int:
    """How many pixels a view has on this rank: images times pixels of an image, of similarities (V, B, Q, pixels)."""
    return similarity.shape[1] * similarity.shape[3]
