"""The torch pipeline: Pillow decodes, torchvision augments, a pool of threads does both.

On a CPU it is the reference implementation of the views, with which `dali_graph` is compared. With a GPU, the threads
decode, crop and resize into pinned memory; the rest is done there (`device_views`).
"""

from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torchvision.transforms.v2 import InterpolationMode
from torchvision.transforms.v2 import functional as F

from fra_dist.config import DataConfig
from fra_dist.data.decoding.device_views import DeviceViews
from fra_dist.data.decoding.images import BadImage, check_agreement, decode
from fra_dist.data.decoding.pipeline import HOST_FORM, Request, UndecodableError, ViewForm
from fra_dist.data.order.views import BRIGHTNESS, CONTRAST, HUE, SATURATION, ViewParams, blur_radius, views_of


class TorchPipeline:
    """Implements `pipeline.Pipeline` with Pillow and torchvision, on the CPU or ending on a GPU.

    form: of the views that a GPU gives; as_gpu: leave what follows the resize to `DeviceViews` on a CPU too.
    """

    def __init__(
        self, config: DataConfig, device: torch.device, form: ViewForm = HOST_FORM, as_gpu: bool = False
    ) -> None:
        self.sizes, self.device = [size for _, size in views_of(config)], device
        self.mean = torch.tensor(config.mean).view(3, 1, 1) * 255
        self.std = torch.tensor(config.std).view(3, 1, 1) * 255
        self.finishing = DeviceViews(config, device, form) if as_gpu or device.type == "cuda" else None
        self.pool = ThreadPoolExecutor(config.threads, thread_name_prefix="fra-views")
        self.waiting: deque[_Job] = deque()

    @property
    def stream(self) -> torch.cuda.Stream | None:
        """The stream on which a GPU makes the views."""
        return None if self.finishing is None else self.finishing.stream

    def submit(self, request: Request) -> None:
        """Begin to work on a request in the pool of threads; returns at once."""
        self.waiting.append(self._begin(request))

    def collect(self) -> tuple[Tensor, ...]:
        """The views of the oldest request not collected yet. Raises UndecodableError."""
        return self._finish(self.waiting.popleft())

    def redo(self, request: Request) -> tuple[Tensor, ...]:
        """Process a request at once, beside those under way. Raises UndecodableError."""
        return self._finish(self._begin(request))

    def close(self) -> None:
        """Stop the threads and drop requests not collected yet."""
        self.pool.shutdown(wait=True, cancel_futures=True)
        self.waiting.clear()

    def _begin(self, request: Request) -> "_Job":
        count, pinned = len(request.images), self.device.type == "cuda"
        shapes = [(count, s, s, 3) if self.finishing is not None else (count, 3, s, s) for s in self.sizes]
        pixels = [torch.empty(shape, dtype=torch.uint8, pin_memory=pinned) for shape in shapes]
        make = crop if self.finishing is not None else augment
        return _Job(request, pixels, [self.pool.submit(_render, request, i, pixels, make) for i in range(count)])

    def _finish(self, job: "_Job") -> tuple[Tensor, ...]:
        reasons = {}
        for position, future in enumerate(job.futures):
            try:
                future.result()
            except BadImage as error:
                reasons[position] = str(error)
        if reasons:
            raise UndecodableError(reasons)
        if self.finishing is not None:
            return self.finishing.finish(job.pixels, job.request.params)
        return tuple(view.float().sub_(self.mean).div_(self.std) for view in job.pixels)


class _Job(NamedTuple):
    """A request under way: pixels, one tensor a view, into which the futures write those of one photo each."""

    request: Request
    pixels: list[Tensor]
    futures: list[Future[None]]


def _render(request: Request, i: int, pixels: Sequence[Tensor], make: Callable[..., Tensor]) -> None:
    photo = torch.from_numpy(np.array(decode(request.images[i], checked=True))).permute(2, 0, 1)
    check_agreement(request.heads[i], *photo.shape[1:])
    for view, params in zip(pixels, request.params, strict=True):
        view[i] = make(photo, params, i, view.shape[2])


def crop(photo: Tensor, params: ViewParams, i: int, size: int) -> Tensor:
    """What view i of `params` shows of a photo (3, H, W) uint8, resized: (size, size, 3) uint8."""
    return _resized(photo, params, i, size).permute(1, 2, 0)


def _resized(photo: Tensor, params: ViewParams, i: int, size: int) -> Tensor:
    x0, y0, x1, y1 = params.box[i].tolist()
    return F.resized_crop(photo, y0, x0, y1 - y0, x1 - x0, [size, size], InterpolationMode.BILINEAR, antialias=True)


def augment(photo: Tensor, params: ViewParams, i: int, size: int) -> Tensor:
    """View i of `params`: (3, H, W) uint8 to (3, size, size) uint8, with the augmentations in the order of METHOD."""
    view = _resized(photo, params, i, size)
    if params.flip[i]:
        view = F.horizontal_flip(view)
    for operation in params.order[i].tolist():
        view = _jitter(view, operation, params, i)
    if params.grey[i]:
        view = F.rgb_to_grayscale(view, num_output_channels=3)
    radius = int(blur_radius(params.sigma[i], size))
    if radius:
        kernel = 2 * radius + 1
        view = F.gaussian_blur(view, [kernel, kernel], [float(params.sigma[i])] * 2)
    if params.solarise[i] < 256:
        view = F.solarize(view, float(params.solarise[i]))
    return view


def _jitter(view: Tensor, operation: int, params: ViewParams, i: int) -> Tensor:
    if operation == BRIGHTNESS and params.brightness[i] != 1:
        return F.adjust_brightness(view, float(params.brightness[i]))
    if operation == CONTRAST and params.contrast[i] != 1:
        return F.adjust_contrast(view, float(params.contrast[i]))
    if operation == SATURATION and params.saturation[i] != 1:
        return F.adjust_saturation(view, float(params.saturation[i]))
    if operation == HUE and params.hue[i] != 0:
        return F.adjust_hue(view, float(params.hue[i]))
    return view
