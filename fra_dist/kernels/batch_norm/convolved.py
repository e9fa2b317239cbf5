"""Batch norm and ReLU with the convolution that follows, without the rectified map in between being kept.

    z = convolution(y)    y = ReLU(w (x − μ_g)/√(σ²_g + ε) + b)

The gradient of the convolution's weight needs y, and what normalisation needs is x. With operations of their own, both
maps are kept until the backward pass; here x alone is. There the kernel that reads x anyway writes y once more, to the
bit what it was: half of the activations of a residual block's inner maps for one write of each.
"""

from typing import Any, NamedTuple

import torch
from torch import Tensor

from fra_dist.kernels.batch_norm.api import Running, check_shapes, layer_for, statistics
from fra_dist.kernels.batch_norm.reference import cast
from fra_dist.types import CrossRank


class Convolution(NamedTuple):
    """A convolution over two dimensions, without bias and padded with zeros."""

    stride: tuple[int, ...]
    padding: tuple[int, ...]
    dilation: tuple[int, ...]
    groups: int

    def output(self, y: Tensor, kernel: Tensor) -> Tensor:
        """The result: (N, C, H, W) and (C', C / groups, h, w) -> (N, C', H', W')."""
        stride, padding, dilation, groups = self
        return torch.ops.aten.convolution(y, kernel, None, stride, padding, dilation, False, [0, 0], groups)

    def gradient(self, dz: Tensor, y: Tensor, kernel: Tensor, of_kernel: bool) -> Tensor:
        """The gradient of the kernel, or that of y, for which shape, type and layout of `y` are enough."""
        stride, padding, dilation, groups = self
        wanted = [not of_kernel, of_kernel, False]
        found = torch.ops.aten.convolution_backward(
            dz, y, kernel, None, stride, padding, dilation, False, [0, 0], groups, wanted
        )
        gradient: Tensor = found[int(of_kernel)]
        return gradient


def convolved(
    x: Tensor, weight: Tensor, bias: Tensor, kernel: Tensor, convolution: Convolution, *, cross: CrossRank, groups: int,
    eps: float, running: Running | None,
) -> Tensor:  # fmt: skip
    """The convolution of the rectified norm of x, by the Triton kernels, which `takes` must allow for x.

    x, weight, bias, cross, groups, eps and running as for `batch_norm`; kernel: (C', C / groups of the convolution,
    h, w). Differentiable once in x, weight, bias and kernel. Returns (N, C', H', W'). Raises what `batch_norm` does.
    """
    layer = layer_for(x, weight, bias, None, groups, True, eps, running) if cross.world == 1 else None
    kernel = cast(kernel, x.dtype)
    if layer is not None:
        result: Tensor = _OnOneRank.apply(x, weight, bias, kernel, convolution, layer, running)
        return result
    check_shapes(x, weight, bias, None, groups)
    result = _Convolved.apply(x, weight, bias, kernel, convolution, groups, eps, cross, running)
    return result


class _OnOneRank(torch.autograd.Function):
    """The passes of `one_rank`."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, kernel: Tensor, convolution: Convolution, layer: Any,
        running: Running | None,
    ) -> Tensor:  # fmt: skip
        y, settled = layer.forward(x, weight, bias, None, running)
        ctx.layer, ctx.convolution = layer, convolution
        ctx.save_for_backward(x, kernel, settled)
        ctx.set_materialize_grads(False)
        return convolution.output(y, kernel)

    @staticmethod
    def backward(ctx: Any, dz: Tensor | None) -> tuple[Any, ...]:  # type: ignore[override]
        if dz is None:
            return (None,) * 7
        x, kernel, settled = ctx.saved_tensors
        trained = ctx.needs_input_grad[3]
        dy = ctx.convolution.gradient(dz, x, kernel, of_kernel=False)
        dx, y, (d_bias, d_weight) = ctx.layer.backward(dy, None, x, None, settled, rebuild=trained)
        d_kernel = ctx.convolution.gradient(dz, y, kernel, of_kernel=True) if trained else None
        return dx, d_weight, d_bias, d_kernel, None, None, None


class _Convolved(torch.autograd.Function):
    """The passes of several ranks, with collectives in between."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, kernel: Tensor, convolution: Convolution, groups: int,
        eps: float, cross: CrossRank, running: Running | None,
    ) -> Tensor:  # fmt: skip
        from fra_dist.kernels.batch_norm.op import Fused  # imports Triton

        mean, _, inverse, scale, shift = statistics(
            x, weight, bias, cross=cross, groups=groups, eps=eps, running=running
        )  # fmt: skip
        y = Fused.transform(x, scale, shift, None, True)
        ctx.convolution, ctx.cross = convolution, cross
        ctx.save_for_backward(x, kernel, weight, mean, inverse, scale, shift)
        ctx.set_materialize_grads(False)
        return convolution.output(y, kernel)

    @staticmethod
    def backward(ctx: Any, dz: Tensor | None) -> tuple[Any, ...]:  # type: ignore[override]
        from fra_dist.kernels.batch_norm.op import Fused

        if dz is None:
            return (None,) * 9
        x, kernel, weight, mean, inverse, scale, shift = ctx.saved_tensors
        trained = ctx.needs_input_grad[3]
        dy = ctx.convolution.gradient(dz, x, kernel, of_kernel=False)
        own, y = Fused.sums(dy, None, x, None, mean, inverse, scale, shift, trained)
        d_kernel = ctx.convolution.gradient(dz, y, kernel, of_kernel=True) if trained else None
        count = x.numel() // x.shape[1] // len(mean) * ctx.cross.world
        level, slope = (ctx.cross.sum(own) / count).unbind()
        dx = Fused.gradients(dy, x, mean, inverse, scale, shift, level, slope)
        d_bias, d_weight = cast(own.sum(dim=1), weight.dtype).unbind()
        return dx, d_weight, d_bias, d_kernel, *[None] * 5
