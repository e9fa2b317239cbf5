"""The kernel's small case, tried before a run trusts the kernel: see `kernels/self_check.py`."""

from typing import Any

import torch
from torch import Tensor

from fra_dist.kernels.batch_norm.api import Running, batch_norm, takes
from fra_dist.kernels.batch_norm.convolved import Convolution, convolved
from fra_dist.kernels.small_cases import Make, backward
from fra_dist.types import SINGLE, CrossRank

_CONVOLUTION = Convolution((1, 1), (1, 1), (1, 1), 1)


class Alike:
    """Two ranks with the same images, so that what each gets is what one alone would, by the kernels of several."""

    rank, world = 0, 2

    def mean(self, x: Tensor) -> Tensor:
        """Return the mean over both ranks, which is x."""
        return x

    def sum(self, x: Tensor) -> Tensor:
        """Return the sum over both ranks."""
        return 2 * x

    def gather(self, x: Tensor) -> Tensor:
        """Return the images of both ranks, without gradient."""
        return torch.cat([x, x]).detach()


def run(make: Make, dtype: torch.dtype) -> list[Tensor]:
    """Results and gradients on small inputs of `dtype`; in float64 the plain path says what is right."""
    exact = torch.float64 if dtype == torch.float64 else torch.float32
    x, rest = (make(8, 24, 5, 5).contiguous(memory_format=torch.channels_last).requires_grad_() for _ in range(2))
    weight, bias = (make(24, dtype=exact, grad=True) for _ in range(2))
    kernel = (make(8, 24, 3, 3) / 24).detach().requires_grad_()
    outputs, statistics = [], []
    for cross in (SINGLE, Alike()):
        running = Running(torch.zeros_like(weight), torch.ones_like(weight), torch.zeros_like(weight[0]).long(), 0.1)
        options: dict[str, Any] = {"cross": cross, "groups": 2, "running": running}
        out, mean, var = batch_norm(x, weight, bias, rest, relu=True, **options)
        outputs += [out, _into_a_convolution(x, weight, bias, kernel, cross)]
        statistics += [mean, var, running.mean, running.var]
    return [*statistics, *backward(outputs, [x, rest, weight, bias, kernel], make)]


def _into_a_convolution(x: Tensor, weight: Tensor, bias: Tensor, kernel: Tensor, cross: CrossRank) -> Tensor:
    options: dict[str, Any] = {"cross": cross, "groups": 2, "eps": 1e-5, "running": None}
    if takes(x):
        return convolved(x, weight, bias, kernel, _CONVOLUTION, **options)
    y = batch_norm(x, weight, bias, relu=True, **options)[0]
    return _CONVOLUTION.output(y, kernel)
