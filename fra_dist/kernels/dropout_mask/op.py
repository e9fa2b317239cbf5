"""Dropout's masks by the Triton kernel, as a PyTorch operator for torch.compile."""

import torch
from torch import Tensor

from fra_dist.kernels import dispatch
from fra_dist.kernels.dropout_mask import launch
from fra_dist.kernels.operators import device_of, operator


@operator("dropout_mask")
def mask(keys: Tensor, shape: list[int], call: int, span: int, threshold: int) -> Tensor:
    """Operator for `launch.mask`: (V B, ...) bool, what is kept."""
    dispatch.launches["dropout_mask"] += 1
    with device_of(keys):
        return launch.mask(keys.contiguous(), shape, call, span, threshold)


@mask.register_fake
def _(keys: Tensor, shape: list[int], call: int, span: int, threshold: int) -> Tensor:
    return keys.new_empty(shape, dtype=torch.bool)
