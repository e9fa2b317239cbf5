"""Tools for the kernels' small cases, `kernels/NAME/small_case.py`, which check a kernel before a run trusts it."""

from collections.abc import Callable

import torch
from torch import Tensor

Make = Callable[..., Tensor]
"""Makes standard normal numbers, make(*shape, dtype=..., grad=False), the same at each call of a case."""


def backward(outputs: list[Tensor], inputs: list[Tensor], make: Make) -> list[Tensor]:
    """The outputs, and the gradients that `inputs` get from a random combination of the outputs."""
    loss = sum(((out * make(*out.shape, dtype=out.dtype)).sum() for out in outputs), start=outputs[0].new_zeros(()))
    return [*outputs, *torch.autograd.grad(loss, inputs)]
