"""The Triton kernels of LARS and the EMA as PyTorch operators: torch.compile takes them without a graph break."""

from collections.abc import Sequence

import torch
from torch import Tensor

from fra_dist.kernels import dispatch
from fra_dist.kernels.lars_ema import launch
from fra_dist.kernels.memory_layout import laid_out_alike
from fra_dist.kernels.operators import device_of, operator


@operator("lars_ema_squares")
def squares(parameters: Sequence[Tensor], gradients: Sequence[Tensor]) -> Tensor:
    """Operator for `launch.squares`: sums of squares of each parameter and gradient, (2, n) float64."""
    dispatch.launches["lars_ema_squares"] += 1
    with device_of(parameters[0]):
        return launch.squares(list(parameters), _like(gradients, parameters))


@squares.register_fake
def _(parameters: Sequence[Tensor], gradients: Sequence[Tensor]) -> Tensor:
    return parameters[0].new_empty((2, len(parameters)), dtype=torch.float64)


@operator("lars_ema_step", ("parameters", "velocities", "targets"))
def step(
    parameters: Sequence[Tensor], gradients: Sequence[Tensor], velocities: Sequence[Tensor],
    targets: Sequence[Tensor], weight_decay: Sequence[float], adapt: Sequence[bool], lr: float, momentum: float,
    trust: float, target_momentum: float, squares: Tensor | None, found_inf: Tensor | None,
) -> None:  # fmt: skip
    """Operator for `launch.step`: one step of LARS and the EMA, in place."""
    dispatch.launches["lars_ema_step"] += 1
    with device_of(parameters[0]):
        launch.step(
            list(parameters), _like(gradients, parameters), list(velocities), list(targets), list(weight_decay),
            list(adapt), lr, momentum, trust, target_momentum, squares, found_inf,
        )  # fmt: skip


@operator("lars_ema_follow", ("targets",))
def follow(targets: Sequence[Tensor], online: Sequence[Tensor], momentum: float, found_inf: Tensor | None) -> None:
    """Operator for `launch.follow`: the targets follow the online weights in place."""
    dispatch.launches["lars_ema_follow"] += 1
    with device_of(targets[0]):
        launch.follow(list(targets), _like(online, targets), momentum, found_inf)


def _like(gradients: Sequence[Tensor], parameters: Sequence[Tensor]) -> list[Tensor]:
    """Gradients in the layout of their parameters: autograd may hand over any."""
    return [
        g if laid_out_alike(g, p) else torch.empty_like(p, dtype=g.dtype).copy_(g)
        for g, p in zip(gradients, parameters, strict=True)
    ]


class Fused:
    """The operations of `reference.Reference`, computed by the Triton kernels."""

    squares, step, follow = staticmethod(squares), staticmethod(step), staticmethod(follow)
