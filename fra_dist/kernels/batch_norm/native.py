"""Batch norm's passes for CPUs, by PyTorch's own batch norm."""

import torch
from torch import Tensor

from fra_dist.kernels.batch_norm.reference import Reference, rectified, squared


class Native:
    """The passes of `reference.Reference` as calls of PyTorch's own batch norm, several times as fast on a CPU.

    In evaluation mode PyTorch computes y = scale x + shift, whatever the statistics were, and its backward gives the
    sums.
    """

    @staticmethod
    def moments(x: Tensor, groups: int) -> Tensor:
        """Mean and mean square of this rank's values, (2, G, C) float64."""
        exact = torch.promote_types(x.dtype, torch.float32)
        one, other = torch.zeros(2, x.shape[1], dtype=exact).unbind()  # without them, moments have the type of x
        parts = [torch.batch_norm_update_stats(part, one, other, 0.0) for part in x.chunk(groups)]
        mean, var = (torch.stack(each) for each in zip(*parts, strict=True))
        return squared(mean, var)

    finish = Reference.finish

    @staticmethod
    def transform(x: Tensor, scale: Tensor, shift: Tensor, residual: Tensor | None, relu: bool) -> Tensor:
        """The map scale x + shift (+ residual), rectified if `relu`; scale and shift are (G, C)."""
        y = torch.empty_like(x)
        zero, one, unused = torch.zeros_like(scale[0]), torch.ones_like(scale[0]), scale.new_empty(0)
        for part, out, *affine in zip(x.chunk(len(scale)), y.chunk(len(scale)), scale, shift, strict=True):
            torch.ops.aten.native_batch_norm.out(
                part, *affine, zero, one, False, 0.0, 0.0, out=out, save_mean=unused, save_invstd=unused
            )
        if residual is not None:
            y += residual
        return y.relu_() if relu else y

    @staticmethod
    def sums(
        dy: Tensor, _: None, x: Tensor, y: Tensor | None, mean: Tensor, inverse: Tensor, *_rest: object
    ) -> tuple[Tensor, Tensor]:
        """The sums Σ g and Σ g x̂ of this rank's values, (2, G, C), and g, which is dy where y is positive."""
        groups, wanted = len(mean), [False, True, True]
        g, found = rectified(dy, y), []
        for given, part, *statistics in zip(g.chunk(groups), x.chunk(groups), mean, inverse**-2, strict=True):
            backward = torch.ops.aten.native_batch_norm_backward
            _, slope, level = backward(given, part, None, *statistics, None, None, False, 0.0, wanted)
            found.append(torch.stack([level, slope]))
        return torch.stack(found, dim=1), g

    @staticmethod
    def gradients(
        g: Tensor, x: Tensor, mean: Tensor, inverse: Tensor, factor: Tensor, _: None, level: Tensor, slope: Tensor
    ) -> Tensor:
        """The gradient of x; g is what `sums` returns."""
        tilt = factor * inverse * slope
        dx = Native.transform(x, -tilt, tilt * mean - factor * level, None, relu=False)
        if g.dtype != factor.dtype:  # 16 bits, which would round the factor
            dx += Native.transform(g, factor, torch.zeros_like(factor), None, relu=False)
            return dx
        for out, given, part in zip(dx.chunk(len(mean)), g.chunk(len(mean)), factor, strict=True):
            out.addcmul_(given, part.view(-1, *[1] * (x.dim() - 2)))
        return dx
