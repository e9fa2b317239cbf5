"""The end of a view in plain PyTorch: the arithmetic of `data/decoding/pixels.py` over whole batches, on any device.

Every operation is done to all images and kept for those that it is meant for, so that no number has to be read back.
All arithmetic is float32, whatever the dtype of the result; each operation ends in whole levels of 0 to 255.
"""

import torch
from torch import Tensor

from fra_dist.kernels.view_pixels import columns as c

GREY_WEIGHTS = 0.2989, 0.587, 0.114
"""Share of red, green and blue in a grey level."""
ROUNDING = 255.999 / 255
"""torchvision's way to round a hue that was turned."""


def reference(images: Tensor, numbers: Tensor, dtype: torch.dtype, channels_last: bool) -> Tensor:
    """Finish views as `api.view_pixels` says: (B, n, n, 3) uint8 to (B, 3, n, n) of `dtype`."""
    pixels = tuple(images[..., channel].float() for channel in range(3))
    for slot in range(4):
        pixels = _jitter(pixels, numbers, numbers[:, c.ORDER + slot].long())
    level = _grey(*pixels)
    pixels = tuple(torch.where(_column(numbers, c.GREY) > 0, level, plane) for plane in pixels)
    pixels = tuple(_blurred(plane, numbers) for plane in pixels)
    finished = [_normalised(plane, numbers, channel) for channel, plane in enumerate(pixels)]
    layout = torch.channels_last if channels_last else torch.contiguous_format
    return torch.stack(finished, dim=1).to(dtype).contiguous(memory_format=layout)


def _column(numbers: Tensor, column: int) -> Tensor:
    return numbers[:, column, None, None]


def _whole(values: Tensor) -> Tensor:
    return values.clamp(0, 255).trunc()


def _grey(r: Tensor, g: Tensor, b: Tensor) -> Tensor:
    return (r * GREY_WEIGHTS[0] + g * GREY_WEIGHTS[1] + b * GREY_WEIGHTS[2]).trunc()


def _jitter(pixels: tuple[Tensor, ...], numbers: Tensor, operation: Tensor) -> tuple[Tensor, ...]:
    """Apply to each image the operation (B,) of its own."""
    factor = numbers.gather(1, c.FACTORS + operation[:, None])[:, :, None]
    which = operation[:, None, None]
    grey = _grey(*pixels)
    mean = grey.sum((1, 2), dtype=torch.float64, keepdim=True).div(grey[0].numel()).float()
    anchor = torch.where(which == c.SATURATION, grey, torch.where(which == c.CONTRAST, mean, 0.0))
    offset = (1 - factor) * anchor
    scaled = (_whole(plane * factor + offset) for plane in pixels)
    turned = _hue(factor, *pixels)
    turning, still = which == c.HUE, (which == c.HUE) & (factor == 0)
    chosen = zip(pixels, scaled, turned, strict=True)
    return tuple(torch.where(still, old, torch.where(turning, hue, other)) for old, other, hue in chosen)


def _hue(shift: Tensor, r: Tensor, g: Tensor, b: Tensor) -> tuple[Tensor, ...]:
    """Turn the hue by `shift` circles; the formula is explained in `data/decoding/pixels.py`."""
    high, low = r.maximum(g).maximum(b), r.minimum(g).minimum(b)
    chroma = high - low
    turn = 6 * shift * chroma
    base = r + g + b + high - 2 * low
    peak = 2 * chroma + low
    turned = []
    for own, following, last in ((r, g, b), (g, b, r), (b, r, g)):
        distance = (base - 2 * own + torch.where(following > last, turn, -turn)).abs()
        distance = distance.minimum(6 * chroma - distance)
        turned.append(((peak - distance).minimum(high).maximum(low) * ROUNDING).trunc())
    return tuple(turned)


def _blurred(plane: Tensor, numbers: Tensor) -> Tensor:
    """Rows first, then columns, tap after tap; a tap beyond an image's own radius has the weight 0."""
    n = plane.shape[-1]
    radius = min(numbers.shape[1] - c.WEIGHTS, n) - 1
    if radius < 1:
        return plane
    rows, sums = torch.zeros_like(plane), torch.full_like(plane, 0.5)  # one half rounds to the nearest
    steps = range(-radius, radius + 1)
    places = [_mirrored(torch.arange(n, device=plane.device) + step, n) for step in steps]
    for step, place in zip(steps, places, strict=True):
        rows = rows + _column(numbers, c.WEIGHTS + abs(step)) * plane.index_select(2, place)
    for step, place in zip(steps, places, strict=True):
        sums = sums + _column(numbers, c.WEIGHTS + abs(step)) * rows.index_select(1, place)
    return torch.where(_column(numbers, c.RADIUS) > 0, sums.clamp_max(255).trunc(), plane)


def _mirrored(place: Tensor, n: int) -> Tensor:
    """Indices beyond an edge of 0 .. n - 1, reflected there; the edge itself is not repeated."""
    place = place.abs()
    return torch.where(place >= n, 2 * n - 2 - place, place)


def _normalised(plane: Tensor, numbers: Tensor, channel: int) -> Tensor:
    value = torch.where(plane >= _column(numbers, c.SOLARISE), 255 - plane, plane)
    value = torch.where(_column(numbers, c.FLIP) > 0, value.flip(2), value)
    return (value - _column(numbers, c.MEAN + channel)) * _column(numbers, c.SCALE + channel)
