"""Counters by which the programs of a kernel find out which of them is the last: zero before a kernel and after it.

Kernels on one stream run one after the other and can share them; each stream has its own. Captured ones are replayed on
any stream, so those have their own too, which all captures share: their replays must follow one another.
"""

import torch
from torch import Tensor

NUMBER = 16_384
"""Counters of a stream, one for each block of a layer's channels: 64 KB."""
MOST_CHANNELS = 16 * NUMBER
"""Channels of a layer for which they are enough, with blocks of 16 or more."""
_CAPTURED = -1
_counters: dict[tuple[int, int], Tensor] = {}
"""By device, -1 for the CPU, and stream. They are never freed: a graph may hold their address."""


def arrivals(device: int) -> Tensor:
    """Counters (NUMBER,) int32, all zero, for a kernel that is launched on the device's current stream."""
    if device < 0:
        return _kept(device, 0)
    capturing = torch.cuda.is_current_stream_capturing()
    stream = _CAPTURED if capturing else torch._C._cuda_getCurrentRawStream(device)
    found = _counters.get((device, stream))
    if found is not None:
        return found
    if capturing:  # nothing ran before: zeroed by each replay
        return torch.zeros(NUMBER, dtype=torch.int32, device=f"cuda:{device}")
    _kept(device, _CAPTURED)
    return _kept(device, stream)


def _kept(device: int, stream: int) -> Tensor:
    place = "cpu" if device < 0 else f"cuda:{device}"
    if (device, stream) not in _counters:
        _counters[device, stream] = torch.zeros(NUMBER, dtype=torch.int32, device=place)
    return _counters[device, stream]
