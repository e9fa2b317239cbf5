"""Dropout's masks by the Triton kernel, as a PyTorch operator for torch.compile."""

import torch
from torch import Tensor

from fra_dist.kernels import dispatch
from fra_dist.kernels.dropout_mask import launch


def _mask(keys: Tensor, shape: list[int], call: int, span: int, threshold: int) -> Tensor:
    dispatch.launches["dropout_mask"] += 1
    with torch.cuda.device_of(keys):
        return launch.mask(keys.contiguous(), shape, call, span, threshold)


mask = torch.library.custom_op("fra_dist::dropout_mask", _mask, mutates_args=())


@mask.register_fake
def _(keys: Tensor, shape: list[int], call: int, span: int, threshold: int) -> Tensor:
    return keys.new_empty(shape, dtype=torch.bool)


def fused(keys: Tensor, shape: list[int], call: int, span: int, threshold: int) -> Tensor:
    """The mask by the Triton kernel: through the operator while torch.compile traces, otherwise by its body directly.

    Calling the body costs the host less than dispatching the operator.
    """
    return (mask if torch.compiler.is_compiling() else _mask)(keys, shape, call, span, threshold)
