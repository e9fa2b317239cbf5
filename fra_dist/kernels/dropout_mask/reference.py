"""Dropout's masks in plain PyTorch: integer arithmetic that defines the result, to the bit, on any device."""

import torch
from torch import Tensor
from torch.nn import functional

GOLDEN = 0x9E3779B97F4A7C15 - 2**64  # as signed 64-bit numbers, which wrap around
_CALL = 0x632BE59BD9B4E019
_M1, _M2 = 0xBF58476D1CE4E5B9 - 2**64, 0x94D049BB133111EB - 2**64


def reference(keys: Tensor, shape: torch.Size, call: int, span: int, threshold: int) -> Tensor:
    """The formula of `api` in plain PyTorch: (V B, ...) bool, what is kept; threshold is p 2⁵³."""
    own = call_keys(keys, shape[0] // len(keys), call, span)
    element = torch.arange(shape[1:].numel(), device=own.device) * GOLDEN
    return (_shift(mix(own[:, None] + element), 11) >= threshold).view(shape)


def dropped(x: Tensor, p: float, keep: Tensor | None) -> Tensor:
    """The input with what the mask `keep` leaves out set to 0 and the rest divided by 1 − p.

    Without a mask torch's generator draws one.
    """
    if keep is None:
        return functional.dropout(x, p)
    if x.is_cuda:
        return torch.ops.aten.native_dropout_backward(x, keep, 1 / (1 - p))  # one pass, differentiable
    return x * keep.to(x.dtype) / (1 - p)


def call_keys(keys: Tensor, views: int, call: int, span: int) -> Tensor:
    """The key of each image of each view, (V B,), for the call number `call` of the first view."""
    parts = [mix(keys + number * _CALL % 2**62) for number in range(call, call + views * span, span)]
    return parts[0] if len(parts) == 1 else torch.cat(parts)


def mix(x: Tensor) -> Tensor:
    """SplitMix64's finaliser, applied to each int64 word."""
    x = (x ^ _shift(x, 30)) * _M1
    x = (x ^ _shift(x, 27)) * _M2
    return x ^ _shift(x, 31)


def _shift(x: Tensor, bits: int) -> Tensor:
    """To the right, with zeros coming in: torch's own shift of signed numbers repeats the sign."""
    return (x >> bits) & ((1 << (64 - bits)) - 1)
