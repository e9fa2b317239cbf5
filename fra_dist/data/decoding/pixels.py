"""Everything after the resize, on the CPU: jitter, grey, blur, solarise, flip and normalisation of one view.

Compiled by numba, because a chain of whole-image operations (DALI's or torch's) takes ten times as long, most of it
moving pixels through memory; `dali_graph` runs it inside its graph. The steps are torchvision's on uint8 images, with
the same rounding: each operation ends in whole levels of 0 to 255. Compiled once per machine, then read from numba's
cache.

Pixels are float32 planes (3, n * n) that hold whole numbers. Fast-math is limited to flags that cannot change a result
for finite numbers, so that every processor computes the same.
"""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numba import carray, cfunc, njit, types
from numpy.typing import NDArray

from fra_dist.data.order.views import BRIGHTNESS, CONTRAST, HUE, SATURATION, ViewParams, blur_radius
from fra_dist.kernels.view_pixels.columns import FACTORS, FLIP, GREY, MEAN, RADIUS, SCALE, SOLARISE, WEIGHTS

F = np.float32
"""The type of all pixel arithmetic."""
_compile: dict[str, Any] = {"nogil": True, "error_model": "numpy", "fastmath": {"nnan", "ninf", "nsz"}}
_FULL = F(255)


def pack(params: ViewParams, size: int, mean: tuple[float, ...], std: tuple[float, ...]) -> NDArray[np.float32]:
    """The parameters of B views as rows of numbers (B, N), in the columns of `kernels.view_pixels.columns`.

    size: side of the views in pixels; mean, std: of each channel, in [0, 1].
    """
    p, radius = params, blur_radius(params.sigma, size)
    needed = WEIGHTS + 1 + int(radius.max(initial=0))
    out = np.zeros((len(p), -(-needed // 4) * 4), np.float32)  # rows of 16 bytes, as a GPU reads best
    out[:, :FACTORS] = p.order
    columns = (p.brightness, p.contrast, p.saturation, p.hue, p.grey, radius, p.solarise, p.flip)
    out[:, FACTORS:MEAN] = np.array(columns).T
    out[:, MEAN:SCALE] = np.multiply(mean, 255)
    out[:, SCALE:WEIGHTS] = F(1) / np.multiply(std, 255).astype(F)
    _blur_weights(out[:, WEIGHTS:], p.sigma.astype(F), radius)
    return out


@njit(**_compile)
def _affine(planes, factor, offset):  # type: ignore[no-untyped-def]
    for c in range(3):
        plane = planes[c]
        for i in range(plane.size):
            plane[i] = F(np.int32(max(min(plane[i] * factor + offset, _FULL), F(0))))


@njit(**_compile)
def _grey(r, g, b):  # type: ignore[no-untyped-def]
    return F(np.int32(r * F(0.2989) + g * F(0.587) + b * F(0.114)))


@njit(**_compile)
def _mean_grey(planes):  # type: ignore[no-untyped-def]
    r, g, b = planes[0], planes[1], planes[2]
    total = np.int64(0)
    for i in range(r.size):
        total += np.int32(_grey(r[i], g[i], b[i]))
    return F(total / r.size)


@njit(**_compile)
def _saturation(planes, factor):  # type: ignore[no-untyped-def]
    r, g, b = planes[0], planes[1], planes[2]
    rest = F(1) - factor
    for i in range(r.size):
        grey = rest * _grey(r[i], g[i], b[i])
        r[i] = F(np.int32(max(min(r[i] * factor + grey, _FULL), F(0))))
        g[i] = F(np.int32(max(min(g[i] * factor + grey, _FULL), F(0))))
        b[i] = F(np.int32(max(min(b[i] * factor + grey, _FULL), F(0))))


@njit(**_compile)
def _turned(distance, chroma, peak, low, high):  # type: ignore[no-untyped-def]
    """A channel's value at a distance (times the chroma, in sixths of the circle) from the hue of the pixel."""
    distance = abs(distance)
    distance = min(distance, F(6) * chroma - distance)
    return F(np.int32(max(min(peak - distance, high), low) * F(255.999 / 255)))  # torchvision's way to round


@njit(**_compile)
def _hue(planes, shift):  # type: ignore[no-untyped-def]
    """Turn the hue of HSV by `shift` circles (at most one half), without converting to HSV and back.

    With M, m, C the largest and smallest channel and their difference: channel c, followed around the circle by p
    and q, lies A = r + g + b - 2c + M - 2m from the pixel's hue (times C, in sixths), on the side that p > q tells.
    After the turn by d sixths it is 2C + m - |A + d C|, held between m and M, the distance taken the short way.
    """
    red, green, blue = planes[0], planes[1], planes[2]
    for i in range(red.size):
        r, g, b = red[i], green[i], blue[i]
        high, low = max(max(r, g), b), min(min(r, g), b)
        chroma = high - low
        turn = F(6) * shift * chroma
        base = r + g + b + high - F(2) * low
        peak = F(2) * chroma + low
        red[i] = _turned(base - F(2) * r + (turn if g > b else -turn), chroma, peak, low, high)
        green[i] = _turned(base - F(2) * g + (turn if b > r else -turn), chroma, peak, low, high)
        blue[i] = _turned(base - F(2) * b + (turn if r > g else -turn), chroma, peak, low, high)


@njit(**_compile)
def _mirrored(i, n):  # type: ignore[no-untyped-def]
    """Index i beyond an edge of 0 .. n - 1, reflected there; the edge itself is not repeated."""
    i = abs(i)
    return 2 * n - 2 - i if i >= n else i


@njit(**_compile)
def _blur_weights(out, sigmas, radii):  # type: ignore[no-untyped-def]
    """Weights of a Gaussian kernel's middle, of its neighbours and so on, for each image: into out (B, ...)."""
    for i in range(len(radii)):
        sigma, radius, total = sigmas[i], radii[i], 0.0
        if radius == 0:
            continue
        for k in range(-radius, radius + 1):
            total += math.exp(-(k**2) / (2.0 * sigma * sigma))
        for k in range(radius + 1):
            out[i, k] = math.exp(-(k**2) / (2.0 * sigma * sigma)) / total


@njit(**_compile)
def _blur(planes, n, half, radius):  # type: ignore[no-untyped-def]
    """Gaussian blur of n x n planes, rows first, then columns; half: the weights from the middle on."""
    taps = 2 * radius + 1
    weights = np.empty(taps, F)
    for k in range(taps):
        weights[k] = half[abs(k - radius)]
    padded, rows, sums = np.empty(n + 2 * radius, F), np.empty(n * n, F), np.empty(n, F)
    for c in range(3):
        plane = planes[c]
        for y in range(n):
            for x in range(n + 2 * radius):
                padded[x] = plane[y * n + _mirrored(x - radius, n)]
            for x in range(n):
                sums[x] = F(0)
            for k in range(taps):
                weight = weights[k]
                for x in range(n):
                    sums[x] += weight * padded[x + k]
            for x in range(n):
                rows[y * n + x] = sums[x]
        for y in range(n):
            for x in range(n):
                sums[x] = F(0.5)  # makes the conversion below round to the nearest
            for k in range(taps):
                weight, start = weights[k], _mirrored(y + k - radius, n) * n
                for x in range(n):
                    sums[x] += weight * rows[start + x]
            for x in range(n):
                plane[y * n + x] = F(np.int32(min(sums[x], _FULL)))


@njit(**_compile)
def _normalise(out, planes, numbers, n):  # type: ignore[no-untyped-def]
    threshold, flip = numbers[SOLARISE], numbers[FLIP] > 0
    for c in range(3):
        plane, mean, scale = planes[c], numbers[MEAN + c], numbers[SCALE + c]
        for i in range(plane.size):
            value = plane[i]
            plane[i] = ((_FULL - value if value >= threshold else value) - mean) * scale
        for y in range(n):
            if flip:
                for x in range(n):
                    out[c, y, x] = plane[y * n + n - 1 - x]
            else:
                for x in range(n):
                    out[c, y, x] = plane[y * n + x]


@njit(**_compile)
def augment_normalise(out, image, numbers):  # type: ignore[no-untyped-def]
    """Augment and normalise one view: image (n, n, 3) uint8 into out (3, n, n) float32.

    numbers: the view's row of `pack`.
    """
    n = image.shape[0]
    planes = np.empty((3, n * n), F)
    for y in range(n):
        for x in range(n):
            for c in range(3):
                planes[c, y * n + x] = image[y, x, c]
    for k in range(4):
        operation = int(numbers[k])
        factor = numbers[FACTORS + operation]
        if operation == BRIGHTNESS and factor != 1:
            _affine(planes, factor, F(0))
        elif operation == CONTRAST and factor != 1:
            _affine(planes, factor, (F(1) - factor) * _mean_grey(planes))
        elif operation == SATURATION and factor != 1:
            _saturation(planes, factor)
        elif operation == HUE and factor != 0:
            _hue(planes, factor)
    if numbers[GREY] > 0:
        _saturation(planes, F(0))
    if numbers[RADIUS] > 0:
        _blur(planes, n, numbers[WEIGHTS:], int(numbers[RADIUS]))
    _normalise(out, planes, numbers, n)


_pointers = [types.CPointer(types.CPointer(kind)) for kind in (types.float32, types.uint8, types.int64)]
_signature = types.void(
    *(_pointers[0], _pointers[2], types.CPointer(types.int32), types.int32),  # outputs: data, shapes, ranks, count
    *(_pointers[1], _pointers[2], types.CPointer(types.int32), types.int32),  # inputs
)


def _for_dali(signature: Any) -> Callable[[Callable[..., None]], Any]:
    """Compile to a C function, kept in numba's cache where there is a place for one."""

    def compiled(function: Callable[..., None]) -> Any:
        try:
            return cfunc(signature, cache=True)(function)
        except RuntimeError:  # no folder to write to: neither beside this file nor in the home
            return cfunc(signature)(function)

    return compiled


@_for_dali(_signature)
def finish_sample(outs, out_shapes, out_ranks, out_count, ins, in_shapes, in_ranks, in_count):  # type: ignore[no-untyped-def]
    """Call `augment_normalise` for a sample, by the signature of DALI's NumbaFunction: image and numbers go in."""
    n = in_shapes[0][0]
    numbers = carray(ins[1], (4 * in_shapes[1][0],)).view(F)
    augment_normalise(carray(outs[0], (3, n, n)), carray(ins[0], (n, n, 3)), numbers)


@_for_dali(types.void(*(_pointers[2], types.CPointer(types.int32), types.int32) * 2, types.int32))
def finish_shapes(out_shapes, out_ranks, out_count, in_shapes, in_ranks, in_count, samples):  # type: ignore[no-untyped-def]
    """Write the output shapes of a batch in the layout of DALI's NumbaFunction: one pointer to each sample's shape."""
    for i in range(samples):
        out_shapes[i][0] = 3
        out_shapes[i][1] = out_shapes[i][2] = in_shapes[i][0]
