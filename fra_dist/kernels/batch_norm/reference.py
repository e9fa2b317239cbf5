"""Batch norm in plain PyTorch: the passes that define the result, on any device."""

import torch
from torch import Tensor


class Reference:
    """The passes of batch norm over the maps in plain PyTorch; they define the result."""

    @staticmethod
    def moments(x: Tensor, groups: int) -> Tensor:
        """Mean and mean square of this rank's values, (2, G, C) float64."""
        var, mean = torch.var_mean(_rows(x, groups), dim=1, correction=0)
        return squared(mean, var)

    @staticmethod
    def finish(moments: Tensor, weight: Tensor, bias: Tensor, eps: float) -> tuple[Tensor, ...]:
        """Mean, biased variance, its inverse root, scale and shift, each (G, C) in the type of the weight."""
        mean, var = moments[0].to(weight.dtype), (moments[1] - moments[0].square()).clamp_min_(0).to(weight.dtype)
        inverse = torch.rsqrt(var + eps)
        scale = weight * inverse
        return mean, var, inverse, scale, bias - mean * scale

    @staticmethod
    def transform(x: Tensor, scale: Tensor, shift: Tensor, residual: Tensor | None, relu: bool) -> Tensor:
        """The map scale x + shift (+ residual), rectified if `relu`; scale and shift are (G, C)."""
        y = _over(scale, x) * cast(x, scale.dtype) + _over(shift, x)
        if residual is not None:
            y = y + cast(residual, y.dtype)
        return cast(y.relu() if relu else y, x.dtype)

    @staticmethod
    def sums(
        dy: Tensor, _: None, x: Tensor, y: Tensor | None, mean: Tensor, inverse: Tensor, *_rest: object
    ) -> tuple[Tensor, Tensor]:
        """The sums Σ g and Σ g x̂ of this rank's values, (2, G, C), and g, which is dy where y is positive.

        Without y it is dy.
        """
        g = rectified(dy, y)
        exact = cast(g, mean.dtype)
        unit = (cast(x, mean.dtype) - _over(mean, x)) * _over(inverse, x)
        return torch.stack([_rows(part, len(mean)).sum(dim=1) for part in (exact, exact * unit)]), g

    @staticmethod
    def gradients(
        g: Tensor, x: Tensor, mean: Tensor, inverse: Tensor, factor: Tensor, _: None, level: Tensor, slope: Tensor
    ) -> Tensor:
        """The gradient of x; g is what `sums` returns."""
        unit = (cast(x, mean.dtype) - _over(mean, x)) * _over(inverse, x)
        inner = cast(g, mean.dtype) - _over(level, x) - unit * _over(slope, x)
        return cast(inner * _over(factor, x), x.dtype)


def rectified(dy: Tensor, y: Tensor | None) -> Tensor:
    """The gradient dy of a ReLU where its output y is positive; dy itself if y is None."""
    return dy if y is None else torch.ops.aten.threshold_backward(dy, y, 0)


def squared(mean: Tensor, var: Tensor) -> Tensor:
    """Mean and mean square in float64, stacked: (2, *mean.shape) from a mean and a biased variance."""
    mean, var = mean.double(), var.double()
    return torch.stack([mean, var + mean.square()])


def cast(x: Tensor, dtype: torch.dtype) -> Tensor:
    """The tensor x in another type, or x itself if it has that type.

    A tensor that is returned twice, as x and as x.to of the type it has already, loses its gradient in torch.compile.
    """
    return x if x.dtype == dtype else x.to(dtype)


def _rows(x: Tensor, groups: int) -> Tensor:
    """(N, C, ...) -> (G, values, C), in fp32 or more."""
    exact = torch.promote_types(x.dtype, torch.float32)
    return cast(x, exact).movedim(1, -1).reshape(groups, -1, x.shape[1])


def _over(values: Tensor, x: Tensor) -> Tensor:
    """(G, C) -> (N, C, 1, ...): every image gets its group's."""
    images = values.repeat_interleave(x.shape[0] // len(values), dim=0)
    return images.view(*images.shape, *[1] * (x.dim() - 2))
