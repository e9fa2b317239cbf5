"""The end of a view on a GPU: colour jitter, grey, blur, solarise, flip and normalisation, from pixels to the batch.

    y_c = (s(k * g(j_4 ∘ j_3 ∘ j_2 ∘ j_1 (x))) − μ_c) / σ_c

with the jitter's operations j in an order of each image's own, g the conversion to grey, k a Gaussian kernel, s the
inversion of values from a threshold up; each operation ends in whole levels of 0 to 255, as torchvision's do on uint8
images. Which of them an image gets, and how much, is a row of numbers (`columns.py`). The same numbers as
`data/decoding/pixels.py` gives on a CPU, in fp32 to the bit. There is no gradient.
"""

import torch
from torch import Tensor

from fra_dist.kernels import dispatch
from fra_dist.kernels.view_pixels import columns
from fra_dist.kernels.view_pixels.reference import reference

KERNEL = dispatch.register("view_pixels")
DTYPES = torch.float32, torch.bfloat16, torch.float16
"""What the kernel can write."""
LARGEST = 2048
"""Longest side of a view that the kernel takes: sums of its grey levels are 32-bit integers."""


def view_pixels(
    images: Tensor, numbers: Tensor, dtype: torch.dtype = torch.float32, channels_last: bool = True
) -> Tensor:
    """Finish views: images (B, n, n, 3) uint8 and their rows of numbers (B, 19 or more) float32, as `columns` says.

    Returns (B, 3, n, n) of `dtype`, in channels-last layout or contiguous. Raises ValueError for other shapes or
    dtypes, and ConfigError if the Triton kernel is insisted on (`dispatch.force`) and cannot take the call.
    """
    square = images.dim() == 4 and images.shape[1] == images.shape[2] and images.shape[3] == 3
    if not square or images.dtype != torch.uint8:
        raise ValueError(f"{tuple(images.shape)} {images.dtype} are not square RGB images, (B, n, n, 3) uint8")
    fits = numbers.dim() == 2 and len(numbers) == len(images) and numbers.shape[1] > columns.WEIGHTS
    if not fits or numbers.dtype != torch.float32:
        raise ValueError(f"{tuple(numbers.shape)} {numbers.dtype} are not a row of numbers for {len(images)} images")
    if dispatch.use_triton(KERNEL, _obstacle(images, dtype), on_gpu=images.is_cuda):
        from fra_dist.kernels.view_pixels.op import finish  # imports Triton

        return finish(images, numbers, dtype, channels_last)
    return reference(images, numbers, dtype, channels_last)


def _obstacle(images: Tensor, dtype: torch.dtype) -> str | None:
    if dtype not in DTYPES:
        return f"dtype {dtype}"
    if images.shape[1] > LARGEST:
        return f"views of more than {LARGEST} pixels"
    return dispatch.device_obstacle(images.device.type, images.device.index)
