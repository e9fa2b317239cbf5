"""Batches through the DALI graph of `dali_graph`: feeding, collecting, and recovery when a photo breaks the graph."""

import io
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from fra_dist.config import DataConfig
from fra_dist.data.decoding import pixels
from fra_dist.data.decoding.dali_graph import build_graph
from fra_dist.data.decoding.device_views import DeviceViews
from fra_dist.data.decoding.images import BadImage, PhotoHeader, check_agreement, decode
from fra_dist.data.decoding.pipeline import HOST_FORM, Request, UndecodableError, ViewForm
from fra_dist.data.order.views import views_of

Outcome = tuple[Tensor, ...] | UndecodableError
"""Views of a request, one tensor each, or the error that says which of its photos cannot be decoded."""

_FAILURES = (RuntimeError, IndexError, ValueError)  # what DALI makes of an error inside an operator


class DaliPipeline:
    """Implements `pipeline.Pipeline` with DALI, on the CPU or a GPU.

    batch_size: photos of the largest request; form: of the views that a GPU gives; as_gpu: end the graph with the
    resize on a CPU too, as it ends on a GPU.
    """

    def __init__(
        self,
        config: DataConfig,
        device: torch.device,
        batch_size: int,
        form: ViewForm = HOST_FORM,
        as_gpu: bool = False,
    ) -> None:
        self.config, self.device, self.batch_size = config, device, batch_size
        self.gpu_index = (device.index or 0) if device.type == "cuda" else None
        self.sizes = [size for _, size in views_of(config)]
        apart = as_gpu or self.gpu_index is not None
        self.finishing = DeviceViews(config, device, form) if apart else None
        self.waiting: deque[tuple[Request, dict[int, str]]] = deque()
        """Requests under way, oldest first; with what is wrong when they were not given to DALI at all."""
        self.done: deque[Outcome] = deque()
        self.pool = ThreadPoolExecutor(config.threads, thread_name_prefix="fra-odd")
        self.pipe = self._build()

    @property
    def stream(self) -> torch.cuda.Stream | None:
        """The stream on which a GPU makes the views."""
        return None if self.finishing is None else self.finishing.stream

    def submit(self, request: Request) -> None:
        """Start to decode and augment a request's photos in DALI's threads, and return at once."""
        self.waiting.append((request, self._feed(request)))

    def collect(self) -> tuple[Tensor, ...]:
        """The views of the oldest request not collected yet. Raises UndecodableError."""
        return _views(self.done.popleft() if self.done else self._next())

    def redo(self, request: Request) -> tuple[Tensor, ...]:
        """Process a request at once; those under way are finished first and kept. Raises UndecodableError."""
        while self.waiting:  # DALI works in order: what is under way comes first, and is kept
            self.done.append(self._next())
        self.submit(request)
        return _views(self._next())

    def close(self) -> None:
        """Drop what is under way, stop the threads and release DALI's memory."""
        self.waiting.clear()
        self.done.clear()
        self.pool.shutdown(wait=True)
        self.pipe = None

    def _build(self) -> Any:
        return build_graph(self.config, self.batch_size, self.gpu_index, finished=self.finishing is None)

    def _next(self) -> Outcome:
        """Outcome of the oldest request under way. A failure may leave the pipeline dead, so it is built again."""
        request, reasons = self.waiting[0]
        if not reasons:
            try:
                outcome: Outcome = self._outputs(request)
            except _FAILURES:
                self.pipe = self._build()
                reasons, spared = self._find_bad(request)
                if not reasons:
                    if not spared:
                        raise
                    self._feed(request)
                    outcome = self._outputs(request)
                # The new graph knows nothing of the requests that the old one was fed.
                for later, failed in list(self.waiting)[1:]:
                    if not failed:
                        self._feed(later)
        self.waiting.popleft()
        return UndecodableError(reasons) if reasons else outcome

    def _find_bad(self, request: Request) -> tuple[dict[int, str], int]:
        """(why photos cannot be used, how many DALI cannot decode and Pillow can: those become bitmaps).

        Each photo alone: DALI names only the first bad one of a batch, and not always. Pillow decides, so that both
        pipelines leave the same photos out.
        """
        reasons, spared, images = {}, 0, request.images
        for i in range(len(request.images)):
            alone = tuple(params.take([i]) for params in request.params)
            try:
                self._feed(Request([request.images[i]], [request.heads[i]], alone))
                self.pipe.outputs()
            except _FAILURES:
                self.pipe = self._build()
                bitmap = _as_bitmap(request.images[i], request.heads[i])
                if isinstance(bitmap, BadImage):
                    reasons[i] = str(bitmap)
                else:
                    images[i], spared = bitmap, spared + 1
        return reasons, spared

    def _outputs(self, request: Request) -> tuple[Tensor, ...]:
        """The views that are ready next, in DALI's own memory on a CPU.

        On a GPU DALI's pixels are read where they are: their stream is waited for by ours, not by the host.
        """
        if self.finishing is None:
            return tuple(torch.from_dlpack(output.as_tensor()) for output in self.pipe.outputs())
        with self.finishing.on_stream():
            outputs = self.pipe.outputs(cuda_stream=self.stream) if self.stream else self.pipe.outputs()
            crops = [torch.from_dlpack(output.as_tensor()) for output in outputs]
        return self.finishing.finish(crops, request.params)

    def _feed(self, request: Request) -> dict[int, str]:
        """Start on a request; when there are photos that DALI need not even try, say which and why instead."""
        images = list(request.images)
        odd = [i for i, head in enumerate(request.heads) if not head.plain]
        bitmaps = self.pool.map(_as_bitmap, [images[i] for i in odd], [request.heads[i] for i in odd])
        converted = dict(zip(odd, bitmaps, strict=True))
        reasons = {i: str(result) for i, result in converted.items() if isinstance(result, BadImage)}
        if reasons:
            return reasons
        for i, bitmap in converted.items():
            images[i] = bitmap  # type: ignore[assignment]
        self.pipe.feed_input("encoded", [np.frombuffer(data, np.uint8) for data in images])
        for view, (params, size) in enumerate(zip(request.params, self.sizes, strict=True)):
            box = params.box
            numbers: dict[str, NDArray[Any]] = {"start": box[:, [1, 0]], "shape": box[:, [3, 2]] - box[:, [1, 0]]}
            if self.finishing is None:
                numbers["numbers"] = pixels.pack(params, size, self.config.mean, self.config.std)
            for name, values in numbers.items():
                self.pipe.feed_input(f"view{view}.{name}", np.ascontiguousarray(values))
        self.pipe.schedule_run()
        return {}


def _views(outcome: Outcome) -> tuple[Tensor, ...]:
    if isinstance(outcome, UndecodableError):
        raise outcome
    return outcome


def _as_bitmap(data: bytes, head: PhotoHeader) -> bytes | BadImage:
    """Anything but a plain JPEG is decoded here and handed on uncompressed, so that DALI meets no odd kinds."""
    out = io.BytesIO()
    try:
        photo = decode(data, checked=True)
        check_agreement(head, *photo.shape[:2])
        Image.fromarray(photo).save(out, "BMP")
    except BadImage as error:
        return error
    return out.getvalue()
