"""The torch pipeline: Pillow decodes, torchvision augments, a pool of threads does both.

It is the reference implementation of the views, with which `dali_graph` is compared.
"""

from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
import torch
from torch import Tensor
from torchvision.transforms.v2 import InterpolationMode
from torchvision.transforms.v2 import functional as F

from fra_dist.config import DataConfig
from fra_dist.data.decoding.images import BadImage, check_agreement, decode
from fra_dist.data.decoding.pipeline import Request, UndecodableError
from fra_dist.data.order.views import BRIGHTNESS, CONTRAST, HUE, SATURATION, ViewParams, blur_radius, views_of


class TorchPipeline:
    """Implements `pipeline.Pipeline` on the CPU; the finished batch is copied to `device`."""

    def __init__(self, config: DataConfig, device: torch.device) -> None:
        self.sizes, self.device = [size for _, size in views_of(config)], device
        self.mean = torch.tensor(config.mean).view(3, 1, 1) * 255
        self.std = torch.tensor(config.std).view(3, 1, 1) * 255
        self.pool = ThreadPoolExecutor(config.threads, thread_name_prefix="fra-views")
        self.waiting: deque[list[Future[tuple[Tensor, ...]]]] = deque()

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

    def _begin(self, request: Request) -> list[Future[tuple[Tensor, ...]]]:
        return [self.pool.submit(_render, request, i, self.sizes) for i in range(len(request.images))]

    def _finish(self, futures: list[Future[tuple[Tensor, ...]]]) -> tuple[Tensor, ...]:
        views: list[list[Tensor]] = [[] for _ in self.sizes]
        reasons = {}
        for position, future in enumerate(futures):
            try:
                for view, pixels in zip(views, future.result(), strict=True):
                    view.append(pixels)
            except BadImage as error:
                reasons[position] = str(error)
        if reasons:
            raise UndecodableError(reasons)
        return tuple(self._normalise(torch.stack(view)) for view in views)

    def _normalise(self, pixels: Tensor) -> Tensor:
        return pixels.float().sub_(self.mean).div_(self.std).to(self.device)


def _render(request: Request, i: int, sizes: Sequence[int]) -> tuple[Tensor, ...]:
    photo = torch.from_numpy(np.array(decode(request.images[i], checked=True))).permute(2, 0, 1)
    check_agreement(request.heads[i], *photo.shape[1:])
    return tuple(augment(photo, params, i, size) for params, size in zip(request.params, sizes, strict=True))


def augment(photo: Tensor, params: ViewParams, i: int, size: int) -> Tensor:
    """View i of `params`: (3, H, W) uint8 to (3, size, size) uint8, with the augmentations in the order of METHOD."""
    x0, y0, x1, y1 = params.box[i].tolist()
    view = F.resized_crop(photo, y0, x0, y1 - y0, x1 - x0, [size, size], InterpolationMode.BILINEAR, antialias=True)
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
    return view.contiguous()


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
