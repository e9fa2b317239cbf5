"""How tensors lie in memory, as far as the kernels depend on it."""

import torch
from torch import Tensor


def rows_are_channels(x: Tensor) -> bool:
    """Whether memory is rows of C channels, one row per value: channels-last maps, or (N, C) as usual."""
    return x.dim() > 1 and x.movedim(1, -1).is_contiguous()


def laid_out_like(x: Tensor, other: Tensor) -> Tensor:
    """The tensor itself, or a copy with the strides of another one of its shape: autograd may hand over any gradient,
    such as one that is expanded."""
    if x.stride() == other.stride():
        return x
    return torch.empty_like(other, dtype=x.dtype).copy_(x)


def laid_out_alike(one: Tensor, other: Tensor) -> bool:
    """Whether both tensors have no gaps and the same order of elements in memory."""
    if one.is_contiguous() and other.is_contiguous():
        return True
    if one.dim() != 4:
        return False
    last = torch.channels_last
    return one.is_contiguous(memory_format=last) and other.is_contiguous(memory_format=last)
