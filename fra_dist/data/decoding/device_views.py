"""The end of views on a GPU: their pixels and a batch's augmentation go in, the batch in the form of a step comes out.

The numbers of all views of a batch are sent as one small pinned tensor, and one kernel a view does everything after the
resize (`kernels/view_pixels`). All of it happens on a stream of the loader's own, and the host waits for nothing: the
stream that uses the views waits for an event that is recorded after them (`Loader`).
"""

from collections import deque
from collections.abc import Sequence
from contextlib import nullcontext

import numpy as np
import torch
from torch import Tensor

from fra_dist.config import DataConfig
from fra_dist.data.decoding.pipeline import ViewForm
from fra_dist.data.decoding.pixels import pack
from fra_dist.data.order.views import ViewParams
from fra_dist.kernels.view_pixels import view_pixels


class DeviceViews:
    """Finishes the views of one loader. On a CPU, for tests, it does the same without a stream."""

    def __init__(self, config: DataConfig, device: torch.device, form: ViewForm) -> None:
        self.mean, self.std, self.device, self.form = config.mean, config.std, device, form
        self.stream = torch.cuda.Stream(device) if device.type == "cuda" else None
        self._read: deque[tuple[torch.cuda.Event, Sequence[Tensor]]] = deque()

    def finish(self, crops: Sequence[Tensor], params: Sequence[ViewParams]) -> tuple[Tensor, ...]:
        """Views (B, 3, S, S) from what was cut and resized for them, (B, S, S, 3) uint8, on the host or the device.

        Crops on the host should be pinned. Those on the device, which may be another library's memory, are kept until
        the kernel has read them.
        """
        with self.on_stream():
            numbers = self._send(
                [pack(p, crop.shape[1], self.mean, self.std) for p, crop in zip(params, crops, strict=True)]
            )
            crops = [crop.to(self.device, non_blocking=True) for crop in crops]
            dtype, channels_last = self.form
            views = tuple(
                view_pixels(crop, row, dtype, channels_last) for crop, row in zip(crops, numbers, strict=True)
            )
            if self.stream is not None:
                self._read.append((self.stream.record_event(), crops))
        while self._read and self._read[0][0].query():
            self._read.popleft()
        return views

    def on_stream(self) -> torch.cuda.StreamContext | nullcontext[None]:
        """A context in which the loader's stream is the current one."""
        return nullcontext() if self.stream is None else torch.cuda.stream(self.stream)

    def _send(self, rows: Sequence[np.ndarray]) -> list[Tensor]:
        """Arrays on the device, by one copy that nobody waits for."""
        flat = torch.from_numpy(np.concatenate([row.ravel() for row in rows]))
        if self.stream is not None:
            flat = flat.pin_memory()
        parts = flat.to(self.device, non_blocking=True).split([row.size for row in rows])
        return [part.view(row.shape) for part, row in zip(parts, rows, strict=True)]
