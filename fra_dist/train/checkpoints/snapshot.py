"""A copy of the training state in host memory, so that training can continue while the copy is written.

Memory: one copy of all that is saved, on rank 0, from the first checkpoint on. It is page-locked when the state is on a
GPU (as far as the machine allows), so that the copy is one transfer at the full speed of the bus.
"""

from collections.abc import Mapping

import torch
from torch import Tensor

State = Mapping[str, Mapping[str, Tensor]]


class Snapshot:
    """Host buffers that are used again as long as shapes stay the same.

    The owner has to know when they are no longer read.
    """

    def __init__(self) -> None:
        self._buffers: dict[tuple[str, str], Tensor] = {}

    def take(self, state: State) -> dict[str, dict[str, Tensor]]:
        """Copy {part: {name: tensor}} into host memory; waits for the device when tensors are on a GPU.

        Returns the buffers, contiguous, valid until the next call.
        """
        kept: dict[tuple[str, str], Tensor] = {}
        devices = set()
        for part, tensors in state.items():
            for name, value in tensors.items():
                buffer = self._buffer((part, name), value)
                buffer.copy_(value.detach(), non_blocking=True)
                kept[part, name] = buffer
                if value.is_cuda:
                    devices.add(value.device)
        for device in devices:
            torch.cuda.synchronize(device)
        self._buffers = kept
        return {part: {name: kept[part, name] for name in tensors} for part, tensors in state.items()}

    def _buffer(self, key: tuple[str, str], like: Tensor) -> Tensor:
        old = self._buffers.get(key)
        if old is not None and old.shape == like.shape and old.dtype == like.dtype:
            return old
        if like.is_cuda:
            try:
                return torch.empty(like.shape, dtype=like.dtype, pin_memory=True)
            except RuntimeError:  # the limit of locked memory: slower, but right
                pass
        return torch.empty(like.shape, dtype=like.dtype)
