"""LARS and the EMA by multi-tensor calls of plain PyTorch: they define the result, on any device."""

from typing import Any

import torch
from torch import Tensor

EPSILON = 1e-8


class Reference:
    """LARS and the EMA by multi-tensor calls of plain PyTorch; they define the result."""

    @staticmethod
    def squares(parameters: list[Tensor], gradients: list[Tensor]) -> Tensor:
        """Sums of squares of each parameter and of each gradient, (2, n) float64."""
        rows = [torch.stack(torch._foreach_norm(tensors)).double() for tensors in (parameters, gradients)]
        return torch.stack(rows).square()

    @staticmethod
    def step(
        parameters: list[Tensor], gradients: list[Tensor], velocities: list[Tensor], targets: list[Tensor],
        weight_decay: list[float], adapt: list[bool], lr: float, momentum: float, trust: float,
        target_momentum: float, squares: Tensor | None, found_inf: Tensor | None,
    ) -> None:  # fmt: skip
        """One step of LARS, and of the EMA where there are targets, in place;
        the arguments are those of `api.lars_ema`."""
        gradients = [g.to(p.dtype) for g, p in zip(gradients, parameters, strict=True)]
        change = list(torch._foreach_mul(parameters, weight_decay))
        torch._foreach_add_(change, gradients)
        which = [i for i, yes in enumerate(adapt) if yes]
        lengths: list[Any] = [lr] * len(parameters)
        if which:
            chosen = [[tensors[i] for i in which] for tensors in (parameters, gradients)]
            pieces = Reference.squares(*chosen) if squares is None else squares[:, which]
            decay = [weight_decay[i] for i in which]
            for i, length in zip(which, Reference._lengths(pieces, decay, lr, trust), strict=True):
                lengths[i] = length.to(parameters[i].dtype)
        for part, length in zip(change, lengths, strict=True):
            part.mul_(length)
        _move(parameters, change, velocities, momentum, found_inf)
        if targets:
            Reference.follow(targets, parameters[: len(targets)], target_momentum, found_inf)

    @staticmethod
    def _lengths(squares: Tensor, decay: list[float], lr: float, trust: float) -> list[Tensor]:
        p_norm, g_norm = squares.sqrt().unbind()
        below = torch.stack(torch._foreach_mul(list(p_norm.unbind()), decay)) + g_norm + EPSILON
        return list((torch.where(p_norm > 0, trust * p_norm / below, 1.0) * lr).unbind())

    @staticmethod
    def follow(targets: list[Tensor], online: list[Tensor], momentum: float, found_inf: Tensor | None) -> None:
        """The EMA alone: the targets follow the online weights in place, unless `found_inf` is set."""
        online = [p.to(t.dtype) for p, t in zip(online, targets, strict=True)]
        if found_inf is None:
            torch._foreach_lerp_(targets, online, 1 - momentum)
            return
        # not a weight of 0, which would let NaN through
        held = found_inf != 0
        kept = [torch.where(held, t, p) for t, p in zip(targets, online, strict=True)]
        torch._foreach_lerp_(targets, kept, 1 - momentum)


def _move(
    parameters: list[Tensor], change: list[Tensor], velocities: list[Tensor], momentum: float, found_inf: Tensor | None
) -> None:
    """v ← μ v + change, p ← p − v, in one pass that does nothing where found_inf is 1."""
    torch._fused_sgd_(
        parameters,
        change,
        velocities,
        weight_decay=0.0,
        momentum=momentum,
        lr=1.0,
        dampening=0.0,
        nesterov=False,
        maximize=False,
        is_first_step=False,
        found_inf=None if found_inf is None else found_inf.float(),
    )
