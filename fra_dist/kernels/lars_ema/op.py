"""The Triton kernels of LARS and the EMA as PyTorch operators: torch.compile takes them without a graph break."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from fra_dist.kernels import dispatch
from fra_dist.kernels.lars_ema import launch
from fra_dist.kernels.memory_layout import laid_out_alike


@torch.library.custom_op("fra_dist::lars_ema_squares", mutates_args=())
def squares(parameters: Sequence[Tensor], gradients: Sequence[Tensor]) -> Tensor:
    """Operator for `launch.squares`: sums of squares of each parameter and gradient, (2, n) float64."""
    dispatch.launches["lars_ema_squares"] += 1
    with torch.cuda.device_of(parameters[0]):
        return launch.squares(list(parameters), _like(gradients, parameters))


@squares.register_fake
def _(parameters: Sequence[Tensor], gradients: Sequence[Tensor]) -> Tensor:
    return parameters[0].new_empty((2, len(parameters)), dtype=torch.float64)


def _step(
    parameters: Sequence[Tensor], gradients: Sequence[Tensor], velocities: Sequence[Tensor],
    targets: Sequence[Tensor], weight_decay: Sequence[float], adapt: Sequence[bool], lr: float, momentum: float,
    trust: float, target_momentum: float, squares: Tensor | None, found_inf: Tensor | None,
) -> None:  # fmt: skip
    """Operator for `launch.step`: one step of LARS and the EMA, in place."""
    dispatch.launches["lars_ema_step"] += 1
    with torch.cuda.device_of(parameters[0]):
        launch.step(
            list(parameters), _like(gradients, parameters), list(velocities), list(targets), list(weight_decay),
            list(adapt), lr, momentum, trust, target_momentum, squares, found_inf,
        )  # fmt: skip


step = torch.library.custom_op("fra_dist::lars_ema_step", _step, mutates_args=("parameters", "velocities", "targets"))


@torch.library.custom_op("fra_dist::lars_ema_follow", mutates_args=("targets",))
def follow(targets: Sequence[Tensor], online: Sequence[Tensor], momentum: float, found_inf: Tensor | None) -> None:
    """Operator for `launch.follow`: the targets follow the online weights in place."""
    dispatch.launches["lars_ema_follow"] += 1
    with torch.cuda.device_of(targets[0]):
        launch.follow(list(targets), _like(online, targets), momentum, found_inf)


def _like(gradients: Sequence[Tensor], parameters: Sequence[Tensor]) -> list[Tensor]:
    """Gradients in the layout of their parameters: autograd may hand over any."""
    return [
        g if laid_out_alike(g, p) else torch.empty_like(p, dtype=g.dtype).copy_(g)
        for g, p in zip(gradients, parameters, strict=True)
    ]


class Fused:
    """The operations of `reference.Reference`, computed by the Triton kernels.

    Outside of torch.compile a step is launched directly: an operator written in Python looks at each tensor of its
    lists, which costs the host more than the launches.
    """

    squares, follow = staticmethod(squares), staticmethod(follow)

    @staticmethod
    def step(*arguments: Any) -> None:
        """`step`; its arguments."""
        if torch.compiler.is_compiling():
            step(*arguments)
        else:
            _step(*arguments)
