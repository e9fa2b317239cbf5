"""What happens to each photo in each view: every number is a hash of (seed, epoch, sample, view, purpose).

So views do not depend on world size, threads, device, restarts or the order of reading, and the crop boxes and flips
are known to a loss that relates the two views. The same numbers drive the DALI and the torch pipeline.

Distributions are those of torchvision's transforms (`RandomResizedCrop`, `RandomHorizontalFlip`, `ColorJitter` under
`RandomApply`, `RandomGrayscale`, `GaussianBlur`, `RandomSolarize`), in that order.
"""

from dataclasses import dataclass, fields
from typing import Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fra_dist.config import DataConfig, ViewConfig
from fra_dist.data.order.counter_random import key, uniform

Floats = NDArray[np.float64]
"""A float64 array."""
Bools = NDArray[np.bool_]
"""A boolean array."""

BRIGHTNESS, CONTRAST, SATURATION, HUE = range(4)
"""The numbers of the jitter operations in `ViewParams.order`, as torchvision numbers them."""

# Each random number has its own slot, so that a new augmentation leaves the old numbers as they are.
_AREA, _RATIO, _TOP, _LEFT, _FLIP = 0, 16, 32, 33, 34
_JITTER, _FACTORS, _ORDER = 40, 41, 45
_GREY, _BLUR, _SIGMA, _SOLARISE = 50, 51, 52, 53
_VIEWS = 4  # domain of the hash, beside those of plan.py
_ATTEMPTS = 10


@dataclass(frozen=True)
class ViewParams:
    """The augmentation of one view of B photos, as arrays with first axis B."""

    box: NDArray[np.int32]
    """(B, 4): x0, y0, x1, y1 of the crop in pixels of the upright photo; x1 and y1 are exclusive."""
    flip: Bools
    """(B,): whether the view is mirrored left to right after the crop."""
    order: NDArray[np.uint8]
    """(B, 4): the jitter operations in the order in which they are applied."""
    brightness: Floats
    """(B,): factor of the brightness jitter; 1 where it is not applied."""
    contrast: Floats
    """(B,): factor of the contrast jitter; 1 where it is not applied."""
    saturation: Floats
    """(B,): factor of the saturation jitter; 1 where it is not applied."""
    hue: Floats
    """(B,): shift of the hue as a share of the circle; 0 where the jitter is not applied."""
    grey: Bools
    """(B,): whether the view is converted to grey levels (still with three channels)."""
    sigma: Floats
    """(B,): standard deviation of the Gaussian blur in pixels of the view; 0 where it is not applied."""
    solarise: NDArray[np.int16]
    """(B,): values from this threshold up are inverted; 256, which inverts none, where solarisation is not applied."""

    def __len__(self) -> int:
        return len(self.flip)

    def take(self, index: ArrayLike) -> Self:
        """The parameters of a subset of the photos; `index` selects them as numpy indexing does."""
        return type(self)(**{f.name: getattr(self, f.name)[index] for f in fields(self)})

    def put(self, index: ArrayLike, other: "ViewParams") -> None:
        """Overwrite the parameters of the photos at `index` by those of `other`."""
        for f in fields(self):
            getattr(self, f.name)[index] = getattr(other, f.name)


def views_of(config: DataConfig) -> tuple[tuple[ViewConfig, int], ...]:
    """Settings and side in pixels of each view, by view number: first the two views, then the local views."""
    two = (config.view1, config.image_size), (config.view2, config.image_size)
    return *two, *[(config.local_view, config.local_size)] * config.local_views


def draw_views(
    config: ViewConfig, seed: int, epoch: ArrayLike, ids: ArrayLike, view: int, heights: ArrayLike, widths: ArrayLike
) -> ViewParams:
    """Draw the augmentation of view number `view` for photos `ids` (B,) of `heights` x `widths` pixels (B,).

    config: the settings of this view; epoch: one number, or one for each photo (B,).
    """
    keys = np.broadcast_to(key(_VIEWS, seed, epoch, ids, view), np.shape(ids))

    def number(slot: int, count: int = 1) -> Floats:
        """(B,) uniform in [0, 1), or (B, count)."""
        drawn = uniform(key(keys.view(np.int64)[:, None], slot + np.arange(count)))
        return drawn[:, 0] if count == 1 else drawn

    box = _crop_boxes(
        config, number(_AREA, _ATTEMPTS), number(_RATIO, _ATTEMPTS), number(_TOP), number(_LEFT), heights, widths
    )
    jitter = number(_JITTER) < config.jitter
    spread = np.array([config.brightness, config.contrast, config.saturation])
    low = np.maximum(0.0, 1.0 - spread)
    drawn = number(_FACTORS, 4)
    factors = np.where(jitter[:, None], low + (1.0 + spread - low) * drawn[:, :3], 1.0)
    low_sigma, high_sigma = config.blur_sigma
    sigma = low_sigma + (high_sigma - low_sigma) * number(_SIGMA)
    return ViewParams(
        box=box,
        flip=number(_FLIP) < config.flip,
        order=np.argsort(number(_ORDER, 4), axis=1, kind="stable").astype(np.uint8),
        brightness=factors[:, BRIGHTNESS],
        contrast=factors[:, CONTRAST],
        saturation=factors[:, SATURATION],
        hue=np.where(jitter, config.hue * (2.0 * drawn[:, HUE] - 1.0), 0.0),
        grey=number(_GREY) < config.grey,
        sigma=np.where(number(_BLUR) < config.blur, sigma, 0.0),
        solarise=np.where(number(_SOLARISE) < config.solarise, config.solarise_threshold, 256).astype(np.int16),
    )


def blur_radius(sigma: ArrayLike, size: int) -> NDArray[np.int32]:
    """Half width of the blur's kernel in pixels, for views of `size` pixels: three sigmas, limited by the size of the
    view."""
    return np.minimum(np.ceil(3 * np.asarray(sigma)), size - 1).astype(np.int32)


def _crop_boxes(
    config: ViewConfig, area: Floats, ratio: Floats, top: Floats, left: Floats, heights: ArrayLike, widths: ArrayLike
) -> NDArray[np.int32]:
    """`RandomResizedCrop.get_params`: of ten boxes (B, 10) the first that fits, else the largest central one."""
    height, width = np.asarray(heights, np.float64)[:, None], np.asarray(widths, np.float64)[:, None]
    smallest, largest = config.crop_scale
    narrow, wide = config.crop_ratio
    target = height * width * (smallest + (largest - smallest) * area)
    aspect = np.exp(np.log(narrow) + (np.log(wide) - np.log(narrow)) * ratio)
    w, h = np.rint(np.sqrt(target * aspect)), np.rint(np.sqrt(target / aspect))
    fits = (w > 0) & (w <= width) & (h > 0) & (h <= height)

    # A photo of a single pixel in one direction can have a fallback that rounds to nothing: keep one pixel.
    spare_w = np.clip(np.where(width > wide * height, np.rint(height * wide), width), 1, width)
    spare_h = np.clip(np.where(width < narrow * height, np.rint(width / narrow), height), 1, height)
    first = np.argmax(fits, axis=1)[:, None]
    found = fits.any(axis=1)
    w = np.where(found, np.take_along_axis(w, first, 1)[:, 0], spare_w[:, 0])
    h = np.where(found, np.take_along_axis(h, first, 1)[:, 0], spare_h[:, 0])
    free_x, free_y = width[:, 0] - w, height[:, 0] - h
    x = np.where(found, np.floor(left * (free_x + 1)), free_x // 2)
    y = np.where(found, np.floor(top * (free_y + 1)), free_y // 2)
    return np.stack([x, y, x + w, y + h], axis=1).astype(np.int32)
