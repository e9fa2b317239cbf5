"""Batch norm's Triton kernels as PyTorch operators, so that torch.compile takes them without a graph break.

They have no gradient of their own: `batch_norm` puts them together for both passes, with the collectives in between.
"""

import torch
from torch import Tensor

from fra_dist.kernels import dispatch
from fra_dist.kernels.batch_norm import launch


@torch.library.custom_op("fra_dist::batch_norm_moments", mutates_args=())
def moments(x: Tensor, groups: int) -> Tensor:
    dispatch.launches["batch_norm_moments"] += 1
    with torch.cuda.device_of(x):
        return launch.moments(x, groups)


@moments.register_fake
def _(x: Tensor, groups: int) -> Tensor:
    return x.new_empty((2, groups, x.shape[1]), dtype=torch.float64)


@torch.library.custom_op("fra_dist::batch_norm_finish", mutates_args=())
def finish(moments: Tensor, weight: Tensor, bias: Tensor, eps: float) -> Tensor:
    dispatch.launches["batch_norm_finish"] += 1
    with torch.cuda.device_of(moments):
        return launch.finish(moments.contiguous(), weight, bias, eps)


@finish.register_fake
def _(moments: Tensor, weight: Tensor, bias: Tensor, eps: float) -> Tensor:
    return moments.new_empty((5, *moments.shape[1:]), dtype=torch.float32)


@torch.library.custom_op("fra_dist::batch_norm_follow", mutates_args=("running_mean", "running_var", "tracked"))
def follow(
    running_mean: Tensor, running_var: Tensor, tracked: Tensor, mean: Tensor, var: Tensor, momentum: float,
    correction: float,
) -> None:  # fmt: skip
    dispatch.launches["batch_norm_follow"] += 1
    with torch.cuda.device_of(mean):
        launch.follow(running_mean, running_var, tracked, mean.contiguous(), var.contiguous(), momentum, correction)


@torch.library.custom_op("fra_dist::batch_norm_transform", mutates_args=())
def transform(x: Tensor, scale: Tensor, shift: Tensor, residual: Tensor | None, relu: bool) -> Tensor:
    dispatch.launches["batch_norm_transform"] += 1
    with torch.cuda.device_of(x):
        return launch.transform(x, scale, shift, residual, relu)


@transform.register_fake
def _(x: Tensor, scale: Tensor, shift: Tensor, residual: Tensor | None, relu: bool) -> Tensor:
    return torch.empty_like(x)


@torch.library.custom_op("fra_dist::batch_norm_sums", mutates_args=())
def sums(dy: Tensor, x: Tensor, y: Tensor | None, mean: Tensor, inverse: Tensor) -> Tensor:
    dispatch.launches["batch_norm_sums"] += 1
    with torch.cuda.device_of(x):
        return launch.sums(_like(dy, x), x, y, mean, inverse)


@sums.register_fake
def _(dy: Tensor, x: Tensor, y: Tensor | None, mean: Tensor, inverse: Tensor) -> Tensor:
    return mean.new_empty((2, *mean.shape))


@torch.library.custom_op("fra_dist::batch_norm_gradients", mutates_args=())
def gradients(
    dy: Tensor, x: Tensor, y: Tensor | None, mean: Tensor, inverse: Tensor, factor: Tensor, level: Tensor,
    slope: Tensor, with_residual: bool,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    dispatch.launches["batch_norm_gradients"] += 1
    with torch.cuda.device_of(x):
        return launch.gradients(_like(dy, x), x, y, mean, inverse, factor, level, slope, with_residual)


@gradients.register_fake
def _(
    dy: Tensor, x: Tensor, y: Tensor | None, mean: Tensor, inverse: Tensor, factor: Tensor, level: Tensor,
    slope: Tensor, with_residual: bool,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    return torch.empty_like(x), torch.empty_like(x) if with_residual else x.new_empty(0)


def _like(dy: Tensor, x: Tensor) -> Tensor:
    """A gradient in the layout of the map: autograd may hand over any, such as one that is expanded."""
    if dy.stride() == x.stride():
        return dy
    return torch.empty_like(x, dtype=dy.dtype).copy_(dy)


class Fused:
    """The passes of `batch_norm.Reference`, by the kernels."""

    moments, transform, sums = staticmethod(moments), staticmethod(transform), staticmethod(sums)
    follow = staticmethod(follow)

    @staticmethod
    def finish(*arguments: object) -> tuple[Tensor, ...]:
        return finish(*arguments).unbind()  # type: ignore[arg-type]

    @staticmethod
    def gradients(*arguments: object) -> tuple[Tensor, Tensor | None]:
        dx, d_residual = gradients(*arguments)  # type: ignore[arg-type]
        return dx, d_residual if arguments[-1] else None
