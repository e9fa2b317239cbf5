"""The kernel's small case, tried before a run trusts the kernel: see `kernels/self_check.py`."""

import torch
from torch import Tensor

from fra_dist.kernels.small_cases import Make
from fra_dist.kernels.view_pixels import columns as c
from fra_dist.kernels.view_pixels.api import view_pixels


def run(make: Make, dtype: torch.dtype) -> list[Tensor]:
    """Return views of 33 and of 48 pixels in both layouts, with every augmentation at another strength each."""
    views = []
    for n, channels_last in ((33, True), (48, False)):
        images = (make(6, n, n, 3, dtype=torch.float32) * 60 + 128).clamp(0, 255).to(torch.uint8)
        views.append(view_pixels(images, _numbers(n).to(images.device), dtype, channels_last))
    return views


def _numbers(n: int) -> Tensor:
    numbers = torch.zeros(6, c.WEIGHTS + 4)
    for image in range(6):
        numbers[image, c.ORDER : c.FACTORS] = torch.tensor([0.0, 1.0, 2.0, 3.0]).roll(image)
        numbers[image, c.FACTORS : c.GREY] = (
            torch.tensor([0.7, 1.3, 0.8, 0.1]) if image < 5 else torch.tensor([1.0, 1, 1, 0])
        )
        numbers[image, c.RADIUS] = image % 4
        weights = torch.exp(-(torch.arange(image % 4 + 1.0) ** 2) / 2)
        numbers[image, c.WEIGHTS : c.WEIGHTS + len(weights)] = weights / (2 * weights.sum() - weights[0])
    numbers[:, c.GREY] = torch.tensor([0.0, 0, 1, 0, 0, 0])
    numbers[:, c.SOLARISE] = torch.tensor([256.0, 128, 256, 256, 256, 128])
    numbers[:, c.FLIP] = torch.tensor([0.0, 1, 0, 1, 0, 1])
    numbers[:, c.MEAN : c.SCALE] = torch.tensor([123.7, 116.3, 103.5])
    numbers[:, c.SCALE : c.WEIGHTS] = 1 / torch.tensor([58.4, 57.1, 57.4])
    return numbers
