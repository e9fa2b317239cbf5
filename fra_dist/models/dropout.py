"""Dropout whose numbers belong to the images: the same for any number of ranks, micro batches and restarts.

Element e of image i is dropped where hash(key_i, place of the dropout, e) < p 2^53, the hash being SplitMix64's
finaliser (Steele, Lea and Flood, OOPSLA 2014) in integer arithmetic on the device. Keys come from the seed, the step
and the image's place in the global batch, so nothing is drawn in an order that other images could change.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

_GOLDEN = 0x9E3779B97F4A7C15 - 2**64  # as signed 64-bit numbers, which wrap around
_CALL = 0x632BE59BD9B4E019
_M1, _M2 = 0xBF58476D1CE4E5B9 - 2**64, 0x94D049BB133111EB - 2**64


def image_keys(number: int, places: Tensor) -> Tensor:
    """Keys (B,) int64 of the images at `places` (B,) of the global batch; number: of the run's seed and the step."""
    return _mix(_mix(places * _GOLDEN + (number & 0x7FFFFFFFFFFFFFFF)) + _GOLDEN)


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
        """keys: int64, one an image of the batch that comes next; None: back to torch's generator."""
        self.keys, self.calls = keys, 0

    @property
    def idle(self) -> bool:
        """Nothing is dropped."""
        return not self.training or self.p == 0

    def forward(self, x: Tensor) -> Tensor:
        if self.idle:
            return x
        if self.keys is None:
            return functional.dropout(x, self.p)
        return x * self.kept(x.shape).to(x.dtype) / (1 - self.p)

    def kept(self, shape: torch.Size) -> Tensor:
        """What the next call keeps of (B, ...), bool; it counts as that call. Needs keys."""
        assert self.keys is not None
        self.calls += 1
        views = shape[0] // len(self.keys)
        calls = [self.calls + view * self.span for view in range(views)]
        parts = [_mix(self.keys + call * _CALL % 2**62) for call in calls]
        own = parts[0] if views == 1 else torch.cat(parts)
        element = torch.arange(shape[1:].numel(), device=own.device) * _GOLDEN
        return (_shift(_mix(own[:, None] + element), 11) >= int(self.p * 2**53)).view(shape)


def _mix(x: Tensor) -> Tensor:
    x = (x ^ _shift(x, 30)) * _M1
    x = (x ^ _shift(x, 27)) * _M2
    return x ^ _shift(x, 31)


def _shift(x: Tensor, bits: int) -> Tensor:
    """To the right, with zeros coming in: torch's own shift of signed numbers repeats the sign."""
    return (x >> bits) & ((1 << (64 - bits)) - 1)
