"""Batch norm's Triton kernels as PyTorch operators, so that torch.compile takes them without a graph break.

They have no gradient of their own: `api.batch_norm` puts them together for both passes, with the collectives in
between. Outside of torch.compile `Fused` calls their bodies directly: dispatching an operator written in Python costs
the host more than the kernel launch inside it.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor

from fra_dist.kernels import dispatch
from fra_dist.kernels.batch_norm import launch

Body = Callable[..., Any]
_bodies: dict[Any, Body] = {}


def _operator(name: str, mutated: tuple[str, ...] = ()) -> Callable[[Body], Any]:
    """Makes an operator of a function, and remembers that."""

    def register(body: Body) -> Any:
        operator = torch.library.custom_op(f"fra_dist::{name}", body, mutates_args=mutated)
        _bodies[operator] = body
        return operator

    return register


@_operator("batch_norm_moments")
def moments(x: Tensor, groups: int) -> Tensor:
    """Operator for `launch.moments`: mean and mean square, (2, G, C) float64."""
    dispatch.launches["batch_norm_moments"] += 1
    with _device_of(x):
        return launch.moments(x, groups)


@moments.register_fake
def _(x: Tensor, groups: int) -> Tensor:
    return x.new_empty((2, groups, x.shape[1]), dtype=torch.float64)


@_operator("batch_norm_finish")
def finish(moments: Tensor, weight: Tensor, bias: Tensor, eps: float) -> Tensor:
    """Operator for `launch.finish`: mean, variance, its inverse root, scale and shift, (5, G, C) fp32."""
    dispatch.launches["batch_norm_finish"] += 1
    with _device_of(moments):
        return launch.finish(moments.contiguous(), weight, bias, eps)


@finish.register_fake
def _(moments: Tensor, weight: Tensor, bias: Tensor, eps: float) -> Tensor:
    return moments.new_empty((5, *moments.shape[1:]), dtype=torch.float32)


@_operator("batch_norm_follow", ("running_mean", "running_var", "tracked"))
def follow(
    running_mean: Tensor, running_var: Tensor, tracked: Tensor, mean: Tensor, var: Tensor, momentum: float,
    correction: float,
) -> None:  # fmt: skip
    """Operator for `launch.follow`: the running statistics follow each group in place."""
    dispatch.launches["batch_norm_follow"] += 1
    with _device_of(mean):
        launch.follow(running_mean, running_var, tracked, mean.contiguous(), var.contiguous(), momentum, correction)


@_operator("batch_norm_transform")
def transform(x: Tensor, scale: Tensor, shift: Tensor, residual: Tensor | None, relu: bool) -> Tensor:
    """Operator for `launch.transform`: the normalised map, with residual and ReLU if asked for."""
    dispatch.launches["batch_norm_transform"] += 1
    with _device_of(x):
        return launch.transform(x, scale, shift, residual, relu)


@transform.register_fake
def _(x: Tensor, scale: Tensor, shift: Tensor, residual: Tensor | None, relu: bool) -> Tensor:
    return torch.empty_like(x)


@_operator("batch_norm_sums")
def sums(
    dy: Tensor, x: Tensor, y: Tensor | None, mean: Tensor, inverse: Tensor, scale: Tensor, shift: Tensor | None
) -> Tensor:
    """Operator for `launch.sums`: Σ g and Σ g x̂, (2, G, C) fp32."""
    dispatch.launches["batch_norm_sums"] += 1
    with _device_of(x):
        return launch.sums(_like(dy, x), x, y, mean, inverse, scale, shift)


@sums.register_fake
def _(
    dy: Tensor, x: Tensor, y: Tensor | None, mean: Tensor, inverse: Tensor, scale: Tensor, shift: Tensor | None
) -> Tensor:
    return mean.new_empty((2, *mean.shape))


@_operator("batch_norm_gradients")
def gradients(
    dy: Tensor, x: Tensor, y: Tensor | None, mean: Tensor, inverse: Tensor, factor: Tensor, shift: Tensor | None,
    level: Tensor, slope: Tensor, with_residual: bool,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """Operator for `launch.gradients`: the gradient of x and the residual's gradient, empty without a residual."""
    dispatch.launches["batch_norm_gradients"] += 1
    with _device_of(x):
        return launch.gradients(_like(dy, x), x, y, mean, inverse, factor, shift, level, slope, with_residual)


@gradients.register_fake
def _(
    dy: Tensor, x: Tensor, y: Tensor | None, mean: Tensor, inverse: Tensor, factor: Tensor, shift: Tensor | None,
    level: Tensor, slope: Tensor, with_residual: bool,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    return torch.empty_like(x), torch.empty_like(x) if with_residual else x.new_empty(0)


def settle(
    x: Tensor, groups: int, weight: Tensor, bias: Tensor, eps: float, running: tuple[Tensor, Tensor, Tensor] | None,
    momentum: float,
) -> tuple[Tensor, ...]:  # fmt: skip
    """`launch.settle`, for one rank outside of torch.compile: mean, variance, its inverse root, scale and shift."""
    dispatch.launches["batch_norm_settle"] += 1
    with _device_of(x):
        return launch.settle(x, groups, weight, bias, eps, running, momentum).unbind()


def settle_sums(
    dy: Tensor, x: Tensor, y: Tensor | None, mean: Tensor, inverse: Tensor, scale: Tensor, shift: Tensor | None
) -> tuple[Tensor, Tensor]:
    """`launch.settle_sums`, for one rank outside of torch.compile: means (2, G, C) and sums (2, C) of g and g x̂."""
    dispatch.launches["batch_norm_settle_sums"] += 1
    with _device_of(x):
        return launch.settle_sums(_like(dy, x), x, y, mean, inverse, scale, shift)


def _like(dy: Tensor, x: Tensor) -> Tensor:
    """A gradient in the layout of the map: autograd may hand over any, such as one that is expanded."""
    if dy.stride() == x.stride():
        return dy
    return torch.empty_like(x, dtype=dy.dtype).copy_(dy)


def _device_of(x: Tensor) -> AbstractContextManager[Any]:
    """The device that x is on, made the current one if it is not."""
    return nullcontext() if not x.is_cuda or x.get_device() == torch.cuda.current_device() else torch.cuda.device_of(x)


def _directly(operator: Any) -> Any:
    """The operator while torch.compile traces, and otherwise its body."""
    body = _bodies[operator]

    def call(*arguments: Any) -> Any:
        return operator(*arguments) if torch.compiler.is_compiling() else body(*arguments)

    return staticmethod(call)


class Fused:
    """The passes of `reference.Reference`, computed by the Triton kernels. No gradient flows through them."""

    moments, transform, sums = _directly(moments), _directly(transform), _directly(sums)
    settle, settle_sums = staticmethod(settle), staticmethod(settle_sums)
    follow, _finish, _gradients = _directly(follow), _directly(finish), _directly(gradients)

    @staticmethod
    def finish(*arguments: object) -> tuple[Tensor, ...]:
        """Mean, biased variance, its inverse root, scale and shift, (G, C) each,
        as `reference.Reference.finish` returns them."""
        return Fused._finish(*arguments).unbind()

    @staticmethod
    def gradients(*arguments: object) -> tuple[Tensor, Tensor | None]:
        """The gradient of x, and the residual's gradient or None, as `reference.Reference.gradients` returns them."""
        dx, d_residual = Fused._gradients(*arguments)
        return dx, d_residual if arguments[-1] else None
