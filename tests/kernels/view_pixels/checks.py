"""Checks of the Triton kernel that finishes views, shared by the interpreter and the GPU: in fp32 equal to the bit.

They compare with the operator of the CPU, `data/decoding/pixels.py`, which numba compiles.
"""

from dataclasses import dataclass
from itertools import permutations
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fra_dist.data.decoding import pixels
from fra_dist.data.order.views import ViewParams
from fra_dist.kernels import describe, dispatch, force
from fra_dist.kernels.view_pixels import view_pixels

ORDERS = np.array(list(permutations(range(4))), np.uint8)
IMAGENET = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
HALVES = (0.5, 0.5, 0.5), (0.5, 0.5, 0.5)


@dataclass(frozen=True)
class Case:
    """Views of n x n pixels, each augmentation at strengths that are spread over the images."""

    n: int
    count: int = 4
    only: tuple[str, ...] = ("brightness", "contrast", "saturation", "hue", "grey", "sigma", "solarise", "flip")
    channels_last: bool = True
    dtype: torch.dtype = torch.float32
    most_sigma: float = 2.0
    threshold: int = 128
    normalise: tuple[Any, Any] = IMAGENET

    def images(self) -> np.ndarray:
        """Smooth colours with noise: every level and every hue."""
        random = np.random.default_rng(self.n)
        x = np.linspace(0, 255, self.n)
        smooth = np.stack([x[None, :] + 0 * x[:, None], x[:, None] + 0 * x[None, :], 255 - x[None, :] + 0 * x[:, None]])
        noisy = smooth.transpose(1, 2, 0) + random.normal(0, 40, (self.count, self.n, self.n, 3))
        return noisy.clip(0, 255).astype(np.uint8)

    def params(self) -> ViewParams:
        random, count = np.random.default_rng(self.n + 1), self.count

        def drawn(name: str, values: np.ndarray, without: float) -> np.ndarray:
            return values if name in self.only else np.full(count, without)

        return ViewParams(
            box=np.zeros((count, 4), np.int32),
            flip=drawn("flip", np.arange(count) % 2, 0) > 0,
            order=ORDERS[random.permutation(np.arange(count) % 24)],
            brightness=drawn("brightness", random.uniform(0.6, 1.4, count), 1),
            contrast=drawn("contrast", random.uniform(0.6, 1.4, count), 1),
            saturation=drawn("saturation", random.uniform(0.8, 1.2, count), 1),
            hue=drawn("hue", random.uniform(-0.5, 0.5, count), 0),
            grey=drawn("grey", np.arange(count) % 3 == 2, 0) > 0,
            sigma=drawn("sigma", np.linspace(0, self.most_sigma, count), 0),
            solarise=drawn("solarise", np.where(np.arange(count) % 4 == 3, 256, self.threshold), 256).astype(np.int16),
        )

    def numbers(self) -> np.ndarray:
        return pixels.pack(self.params(), self.n, *self.normalise)

    def run(self, device: str) -> Tensor:
        images, numbers = torch.from_numpy(self.images()), torch.from_numpy(self.numbers())
        return view_pixels(images.to(device), numbers.to(device), self.dtype, self.channels_last)


ALL = ("brightness", "contrast", "saturation", "hue")
CASES = {
    "nothing": Case(20, only=()),
    "normalisation to halves": Case(20, only=(), normalise=HALVES),
    "brightness": Case(20, only=("brightness",)),
    "contrast": Case(45, only=("contrast",)),
    "saturation": Case(20, only=("saturation",)),
    "hue": Case(20, only=("hue",)),
    "every order": Case(16, count=24, only=ALL),
    "grey": Case(20, only=("grey", "hue")),
    "blur": Case(33, only=("sigma",)),
    "blur as wide as the view": Case(9, only=("sigma", "flip"), most_sigma=30.0),
    "blur, planes": Case(33, only=("sigma",), channels_last=False),
    "solarise": Case(20, only=("solarise",)),
    "solarise all": Case(20, only=("solarise",), threshold=0),
    "flip": Case(21, only=("flip",)),
    "flipped blur": Case(128, count=2, only=("flip", "sigma")),
    "one pixel": Case(1),
    "several tiles": Case(72),
    "odd": Case(47),
    "planes": Case(50, channels_last=False),
    "bf16": Case(40, dtype=torch.bfloat16),
    "fp16, planes": Case(35, dtype=torch.float16, channels_last=False),
}


def check(case: Case, device: str = "cpu") -> None:
    before = dispatch.launches["view_pixels"]
    with force("triton"):
        found = case.run(device)
    assert dispatch.launches["view_pixels"] == before + 1
    assert describe()["view_pixels"].path == "triton"
    wanted = on_host(case.images(), case.numbers())
    layout = torch.channels_last if case.channels_last else torch.contiguous_format
    assert found.dtype == case.dtype
    assert found.is_contiguous(memory_format=layout)
    # rounding to nearest is the processor's; what is stored in fewer bits may be rounded by another one
    torch.testing.assert_close(found.cpu(), wanted.to(case.dtype), rtol=_rounding(case.dtype), atol=0)
    with force("reference"):
        assert torch.equal(case.run("cpu"), wanted.to(case.dtype))


def on_host(images: np.ndarray, numbers: np.ndarray) -> Tensor:
    """What the operator of the CPU makes of the same images."""
    out = np.empty((len(images), 3, *images.shape[1:3]), np.float32)
    for one, image, row in zip(out, images, numbers, strict=True):
        pixels.augment_normalise(one, image, row)
    return torch.from_numpy(out)


def _rounding(dtype: torch.dtype) -> float:
    return 0.0 if dtype == torch.float32 else torch.finfo(dtype).eps


OTHERS = ("any arguments", "operators", "torch.compile")
"""Checks of `interpreted.py` beside CASES."""
