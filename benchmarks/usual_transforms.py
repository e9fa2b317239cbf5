"""The augmentations of the published recipe as torchvision's v2 transforms, on tensors or on Pillow images.

Imports nothing of fra_dist: `peers.py` uses it in an environment without it.
"""

import random
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from PIL import Image, ImageFilter
from torchvision.transforms import v2


class ApproximateBlur:
    """Pillow's box filters in place of a Gaussian, as many training scripts use."""

    def __init__(self, sigma: Sequence[float]) -> None:
        self.sigma = sigma

    def __call__(self, image: Image.Image) -> Image.Image:
        """Blur by a standard deviation between the two of `sigma`, in pixels."""
        return image.filter(ImageFilter.GaussianBlur(random.uniform(*self.sigma)))


def usual_transform(
    view: Mapping[str, Any], size: int, mean: Sequence[float], std: Sequence[float], exact: bool
) -> v2.Compose:
    """From a Pillow image to a normalised tensor (3, size, size); view: the keys of `data.view1` in a configuration.

    exact: on tensors with the exact Gaussian blur of 23 pixels; otherwise on Pillow images with Pillow's blur.
    """
    jitter = v2.ColorJitter(view["brightness"], view["contrast"], view["saturation"], view["hue"])
    blur = v2.GaussianBlur(23, view["blur_sigma"]) if exact else ApproximateBlur(view["blur_sigma"])
    return v2.Compose(
        [
            v2.PILToTensor() if exact else v2.Identity(),
            v2.RandomResizedCrop(size, view["crop_scale"], view["crop_ratio"], antialias=True),
            v2.RandomHorizontalFlip(view["flip"]),
            v2.RandomApply([jitter], view["jitter"]),
            v2.RandomGrayscale(view["grey"]),
            v2.RandomApply([blur], view["blur"]),
            v2.RandomSolarize(view["solarise_threshold"], view["solarise"]),
            v2.Identity() if exact else v2.PILToTensor(),
            v2.ToDtype(torch.float32, scale=True),
            v2.Normalize(mean, std),
        ]
    )
