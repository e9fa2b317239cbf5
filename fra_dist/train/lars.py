"""LARS (You, Gitman and Ginsburg, arXiv 1708.03888): a step whose length is relative to the weights' own norm."""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor

_EPSILON = 1e-8


class LARS(torch.optim.Optimizer):
    """For each parameter p with gradient g, learning rate η, weight decay λ, trust coefficient t, momentum μ:

        r = t ‖p‖ / (‖g‖ + λ ‖p‖ + 1e-8)     in groups with adapt=True and where ‖p‖ > 0, otherwise 1
        v ← μ v + η r (g + λ p)
        p ← p − v

    η is inside v, so a change of the learning rate does not rescale what v already holds. A group may set
    `weight_decay` and `adapt` for itself. Multi-tensor calls; the norms stay on the device, so nothing waits for it.
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float,
        momentum: float = 0.9,
        weight_decay: float = 0.0,
        trust: float = 0.001,
        adapt: bool = True,
    ) -> None:
        super().__init__(
            params, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay, "trust": trust, "adapt": adapt}
        )

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            parameters = [p for p in group["params"] if p.grad is not None]
            if parameters:
                self._move(parameters, group)
        return loss

    def _move(self, parameters: list[Tensor], group: dict[str, Any]) -> None:
        gradients = [p.grad.to(p.dtype) for p in parameters if p.grad is not None]
        decay, lr = group["weight_decay"], group["lr"]
        velocities = [self._velocity(p) for p in parameters]
        torch._foreach_mul_(velocities, group["momentum"])
        if group["adapt"]:
            change = torch._foreach_add(gradients, parameters, alpha=decay)
            torch._foreach_mul_(change, _lengths(parameters, gradients, group))
            torch._foreach_add_(velocities, change)
        else:
            torch._foreach_add_(velocities, gradients, alpha=lr)
            if decay:
                torch._foreach_add_(velocities, parameters, alpha=lr * decay)
        torch._foreach_sub_(parameters, velocities)

    def _velocity(self, parameter: Tensor) -> Tensor:
        state = self.state[parameter]
        if "momentum_buffer" not in state:
            state["momentum_buffer"] = torch.zeros_like(parameter)
        return state["momentum_buffer"]


def _lengths(parameters: list[Tensor], gradients: list[Tensor], group: dict[str, Any]) -> list[Tensor]:
    """η r of each parameter, 0-dim tensors."""
    p_norm, g_norm = torch.stack(torch._foreach_norm(parameters)), torch.stack(torch._foreach_norm(gradients))
    ratio = group["trust"] * p_norm / (g_norm + group["weight_decay"] * p_norm + _EPSILON)
    return list((torch.where(p_norm > 0, ratio, 1.0) * group["lr"]).unbind())
