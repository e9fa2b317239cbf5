"""Dropout whose numbers belong to the images: the same for any number of ranks, micro batches and restarts.

Element e of image i is dropped where hash(key_i, place of the dropout, e) < p 2^53, see `kernels/dropout_mask/`. Keys
come from the seed, the step and the image's place in the global batch, so nothing is drawn in an order that other
images could change.
"""

from typing import Any, TypedDict

import torch
from torch import Tensor, nn
from torch.nn import functional

from fra_dist.kernels.dropout_mask import GOLDEN, dropout_mask, mix


def image_keys(number: int, places: Tensor) -> Tensor:
    """Keys (B,) int64 of the images at `places` (B,) of the global batch.

    number: a number made from the run's seed and the step.
    """
    return mix(mix(places * GOLDEN + (number & 0x7FFFFFFFFFFFFFFF)) + GOLDEN)


class _Kept(torch.autograd.Function):
    """The product of x, a bool mask and a number in one pass, as for the gradient of PyTorch's own dropout."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, mask: Tensor, scale: float) -> Tensor:
        ctx.scale = scale
        ctx.save_for_backward(mask)
        return torch.ops.aten.native_dropout_backward(x, mask, scale)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        return torch.ops.aten.native_dropout_backward(grads[0], *ctx.saved_tensors, ctx.scale), None, None


class Drawn(TypedDict, total=False):
    """Numbers that `dropout_mask` makes a mask of."""

    keys: Tensor
    call: int
    span: int


class ImageDropout(nn.Module):
    """Dropout of (B, ...) by keys (B,), which `start` gives for the next forward passes; without keys, torch's own.

    One object serves all places of a network in turn: the number of a call since `start` is part of the hash. A pass of
    the network makes `span` calls; with views end to end, (V B, ...), each view is dropped as in a pass of its own.
    """

    def __init__(self, p: float, span: int = 1) -> None:
        super().__init__()
        self.p, self.span = p, span
        self.keys: Tensor | None = None
        self.calls = 0

    def start(self, keys: Tensor | None) -> None:
        """Set the keys (B,) int64 for the next forward passes, one per image of the batch; None:
        use torch's generator again."""
        self.keys, self.calls = keys, 0

    @property
    def idle(self) -> bool:
        """Whether nothing is dropped: outside of training mode, or with p = 0."""
        return not self.training or self.p == 0

    def forward(self, x: Tensor) -> Tensor:
        """The input (B, ...) with elements set to 0 by the images' keys and the others divided by 1 − p."""
        if self.idle:
            return x
        if self.keys is None:
            return functional.dropout(x, self.p)
        kept = self.kept(x.shape)
        if x.is_cuda:
            return _Kept.apply(x, kept, 1 / (1 - self.p))
        return x * kept.to(x.dtype) / (1 - self.p)

    def kept(self, shape: torch.Size) -> Tensor:
        """The mask of what the next call keeps of (B, ...), bool; asking counts as that call. Needs keys."""
        assert self.keys is not None
        self.calls += 1
        return dropout_mask(self.keys, shape, self.calls, self.span, self.p)

    def drawn(self) -> Drawn:
        """What the next call's mask is made of, for a kernel that makes it itself; asking counts as that call.

        Without keys there is nothing to make it of, and nothing is counted.
        """
        if self.keys is None:
            return {}
        self.calls += 1
        return {"keys": self.keys, "call": self.calls, "span": self.span}
