"""LARS (You, Gitman and Ginsburg, arXiv 1708.03888): a step whose length is relative to the weights' own norm."""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor

from fra_dist.train.optim.lars_fused import move_fused
from fra_dist.train.optim.moved import Followers, Known, ParameterPieces

_EPSILON = 1e-8


class LARS(torch.optim.Optimizer):
    """The LARS optimiser, for a parameter p with gradient g, learning rate η, weight decay λ, trust t and momentum μ:

        r = t ‖p‖ / (‖g‖ + λ ‖p‖ + 1e-8)     in groups with adapt=True and where ‖p‖ > 0, otherwise 1
        v ← μ v + η r (g + λ p)
        p ← p − v

    η is inside v, so a change of the learning rate does not rescale what v already holds. A group may set
    `weight_decay` and `adapt` for itself. Where the kernels of `kernels.lars_ema` take the tensors, a step is two
    kernel launches for all groups, with the EMA of `followers`; otherwise it is multi-tensor calls. There is no host
    synchronisation.

    `pieces` names the flat tensors among the parameters whose pieces are to be measured as whole parameters.
    """

    found_inf: Tensor | None = None
    """A 0-dim float32 tensor; where it holds 1, weights and momentum stay, as in PyTorch's fused optimisers."""
    followers: Followers | None = None
    """EMA copies of parameters, updated in the same kernel launch where that is possible."""

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
        self.pieces: dict[Tensor, ParameterPieces] = {}
        self.known = Known()

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """Update all parameters that have a gradient; returns the loss of `closure`, if there is one."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        if not move_fused(self):
            for group in self.param_groups:
                parameters = [p for p in group["params"] if p.grad is not None]
                if parameters:
                    self._move(parameters, group)
        return loss

    def _move(self, parameters: list[Tensor], group: dict[str, Any]) -> None:
        gradients = [p.grad.to(p.dtype) for p in parameters if p.grad is not None]
        velocities = [self.velocity(p) for p in parameters]
        if group["adapt"]:
            pieces = self.pieces.get(parameters[0])
            if pieces is not None:
                parameters, gradients, velocities = (
                    [flat.narrow(0, *span) for span in pieces.spans] for (flat,) in (parameters, gradients, velocities)
                )
            lengths = _lengths(parameters, gradients, group, pieces)
            if not parameters:
                return
            change = list(torch._foreach_add(gradients, parameters, alpha=group["weight_decay"]))
            torch._foreach_mul_(change, lengths)
        else:
            change = list(torch._foreach_mul(gradients, group["lr"]))
            if group["weight_decay"]:
                torch._foreach_add_(change, parameters, alpha=group["lr"] * group["weight_decay"])
        # v ← μ v + change, p ← p − v, in one pass that does nothing where found_inf is 1
        torch._fused_sgd_(
            parameters,
            change,
            velocities,
            weight_decay=0.0,
            momentum=group["momentum"],
            lr=1.0,
            dampening=0.0,
            nesterov=False,
            maximize=False,
            is_first_step=False,
            found_inf=self.found_inf,
        )

    def velocity(self, parameter: Tensor) -> Tensor:
        """Return the momentum buffer v of a parameter; zeros before its first step."""
        state = self.state[parameter]
        if "momentum_buffer" not in state:
            state["momentum_buffer"] = torch.zeros_like(parameter)
        return state["momentum_buffer"]


def _lengths(
    parameters: list[Tensor], gradients: list[Tensor], group: dict[str, Any], pieces: ParameterPieces | None
) -> list[Tensor]:
    """η r of each tensor, 0-dim; with `pieces`, of the whole parameter that each piece belongs to."""
    if pieces is None:
        p_norm, g_norm = torch.stack(torch._foreach_norm(parameters)), torch.stack(torch._foreach_norm(gradients))
    else:
        squares = torch.zeros(2, pieces.parameters, dtype=torch.float64, device=pieces.index.device)
        if parameters:
            norms = torch.stack([*torch._foreach_norm(parameters), *torch._foreach_norm(gradients)])
            squares.index_add_(1, pieces.index, norms.double().square().view(2, -1))
        whole = pieces.sum(squares).sqrt()[:, pieces.index]
        p_norm, g_norm = whole.to(parameters[0].dtype if parameters else torch.float32).unbind()
    ratio = group["trust"] * p_norm / (g_norm + group["weight_decay"] * p_norm + _EPSILON)
    return list((torch.where(p_norm > 0, ratio, 1.0) * group["lr"]).unbind())
