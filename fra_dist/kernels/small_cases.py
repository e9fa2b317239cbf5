"""What the check of a kernel, `kernels/NAME/small_case.py`, is made of."""

from collections.abc import Callable

import torch
from torch import Tensor

Make = Callable[..., Tensor]
"""make(*shape, dtype=..., grad=False): standard normal numbers, the same at each call of a case."""


def backward(outputs: list[Tensor], inputs: list[Tensor], make: Make) -> list[Tensor]:
    """Outputs, and the gradients that `inputs` get from a random combination of them."""
    loss = sum(((out * make(*out.shape, dtype=out.dtype)).sum() for out in outputs), start=outputs[0].new_zeros(()))
    return [*outputs, *torch.autograd.grad(loss, inputs)]
