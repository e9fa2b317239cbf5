"""Batch norm's Triton kernels as PyTorch operators, so that torch.compile takes them without a graph break.

They have no gradient of their own: `api.batch_norm` puts them together for both passes, with the collectives in
between. Outside of torch.compile `Fused` calls their bodies directly: dispatching an operator written in Python costs
the host more than the kernel launch inside it.
"""

import torch
from torch import Tensor

from fra_dist.kernels import dispatch
from fra_dist.kernels.batch_norm import launch
from fra_dist.kernels.memory_layout import laid_out_like
from fra_dist.kernels.operators import device_of, operator


@operator("batch_norm_moments")
def moments(x: Tensor, groups: int) -> Tensor:
    """Operator for `launch.moments`: mean and mean square, (2, G, C) float64."""
    dispatch.launches["batch_norm_moments"] += 1
    with device_of(x):
        return launch.moments(x, groups)


@moments.register_fake
def _(x: Tensor, groups: int) -> Tensor:
    return x.new_empty((2, groups, x.shape[1]), dtype=torch.float64)


@operator("batch_norm_finish")
def finish(moments: Tensor, weight: Tensor, bias: Tensor, eps: float) -> Tensor:
    """Operator for `launch.finish`: mean, variance, its inverse root, scale and shift, (5, G, C) fp32."""
    dispatch.launches["batch_norm_finish"] += 1
    with device_of(moments):
        return launch.finish(moments.contiguous(), weight, bias, eps)


@finish.register_fake
def _(moments: Tensor, weight: Tensor, bias: Tensor, eps: float) -> Tensor:
    return moments.new_empty((5, *moments.shape[1:]), dtype=torch.float32)


@operator("batch_norm_follow", ("running_mean", "running_var", "tracked"))
def follow(
    running_mean: Tensor, running_var: Tensor, tracked: Tensor, mean: Tensor, var: Tensor, momentum: float,
    correction: float,
) -> None:  # fmt: skip
    """Operator for `launch.follow`: the running statistics follow each group in place."""
    dispatch.launches["batch_norm_follow"] += 1
    with device_of(mean):
        launch.follow(running_mean, running_var, tracked, mean.contiguous(), var.contiguous(), momentum, correction)


@operator("batch_norm_transform")
def transform(x: Tensor, scale: Tensor, shift: Tensor, residual: Tensor | None, relu: bool) -> Tensor:
    """Operator for `launch.transform`: the normalised map, with residual and ReLU if asked for."""
    dispatch.launches["batch_norm_transform"] += 1
    with device_of(x):
        return launch.transform(x, scale, shift, residual, relu)


@transform.register_fake
def _(x: Tensor, scale: Tensor, shift: Tensor, residual: Tensor | None, relu: bool) -> Tensor:
    return torch.empty_like(x)


@operator("batch_norm_sums")
def sums(
    dy: Tensor, more: Tensor | None, x: Tensor, y: Tensor | None, mean: Tensor, inverse: Tensor, scale: Tensor,
    shift: Tensor | None, rebuild: bool = False,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """Operator for `launch.sums`: Σ g and Σ g x̂, (2, G, C) fp32, and g, which is empty without y; or y again."""
    dispatch.launches["batch_norm_sums"] += 1
    with device_of(x):
        dy, more = laid_out_like(dy, x), None if more is None else laid_out_like(more, x)
        return launch.sums(dy, more, x, y, mean, inverse, scale, shift, rebuild)


@sums.register_fake
def _(
    dy: Tensor, more: Tensor | None, x: Tensor, y: Tensor | None, mean: Tensor, inverse: Tensor, scale: Tensor,
    shift: Tensor | None, rebuild: bool = False,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    return mean.new_empty((2, *mean.shape)), torch.empty_like(x) if rebuild or y is not None else x.new_empty(0)


@operator("batch_norm_gradients")
def gradients(
    g: Tensor, x: Tensor, mean: Tensor, inverse: Tensor, factor: Tensor, shift: Tensor | None, level: Tensor,
    slope: Tensor,
) -> Tensor:  # fmt: skip
    """Operator for `launch.gradients`: the gradient of x."""
    dispatch.launches["batch_norm_gradients"] += 1
    with device_of(x):
        return launch.gradients(laid_out_like(g, x), x, mean, inverse, factor, shift, level, slope)


@gradients.register_fake
def _(
    g: Tensor, x: Tensor, mean: Tensor, inverse: Tensor, factor: Tensor, shift: Tensor | None, level: Tensor,
    slope: Tensor,
) -> Tensor:  # fmt: skip
    return torch.empty_like(x)


class Fused:
    """The passes of `reference.Reference`, computed by the Triton kernels. No gradient flows through them."""

    moments, transform, follow = (staticmethod(each) for each in (moments, transform, follow))
    gradients = staticmethod(gradients)

    @staticmethod
    def finish(*arguments: object) -> tuple[Tensor, ...]:
        """Mean, biased variance, its inverse root, scale and shift, (G, C) each,
        as `reference.Reference.finish` returns them."""
        return finish(*arguments).unbind()

    @staticmethod
    def sums(
        dy: Tensor, more: Tensor | None, x: Tensor, y: Tensor | None, mean: Tensor, inverse: Tensor, scale: Tensor,
        shift: Tensor | None, rebuild: bool = False,
    ) -> tuple[Tensor, Tensor]:  # fmt: skip
        """The sums, and g, as `reference.Reference.sums` returns them; without y, dy in place of g, or y again."""
        found, out = sums(dy, more, x, y, mean, inverse, scale, shift, rebuild)
        return found, out if rebuild or y is not None else dy
