"""Small float32 operations on planes of pixels: soft steps, noise tiles, blending, blurring."""

from functools import lru_cache

import numpy as np

Plane = np.ndarray  # (h, w) float32
Box = tuple[slice, slice]
"""Rows and columns of a box of pixels."""

TILE = 256
"""Side of a noise tile in texels."""


def ramp(x: Plane, low: float, high: float) -> Plane:
    """0 below `low`, 1 above `high`, linear between them; `high` may be below `low`, which turns the ramp round."""
    scaled = x - low
    scaled *= 1.0 / (high - low)
    return np.minimum(np.maximum(scaled, 0.0, out=scaled), 1.0, out=scaled)


def smooth_step(x: Plane, low: float, high: float) -> Plane:
    """A smooth step from 0 at `low` to 1 at `high`: like `ramp`, but with level ends (3t² − 2t³)."""
    t = ramp(x, low, high)
    return t * t * (3.0 - 2.0 * t)


Number = float | np.ndarray  # (k, 1, 1) float32 for k at once


def spot(x: Plane, y: Plane, x0: Number, y0: Number, rx: Number, ry: Number) -> Plane:
    """A soft bump of height 1 around (x0, y0): (1 + d²)⁻² with d in radii rx, ry.

    It has about the shape of a Gaussian, at a tenth of its cost.
    """
    dx = x - x0
    dx *= 1.0 / rx
    dy = y - y0
    dy *= 1.0 / ry
    dx *= dx
    dy *= dy
    dx += dy
    dx += 1.0
    dx *= dx
    return np.divide(1.0, dx, out=dx)


def blend(canvas: np.ndarray, box: Box, alpha: Plane, colour: np.ndarray | tuple[float, float, float]) -> None:
    """Lay `colour`, (3,) or (3, h, w), over the canvas (3, S, S) inside a box with opacity alpha (h, w), in place."""
    target = canvas[:, box[0], box[1]]
    paint = np.asarray(colour, np.float32)
    change = (paint if paint.ndim == 3 else paint[:, None, None]) - target
    change *= alpha
    target += change


def tinted(colour: np.ndarray | tuple[float, float, float], tone: Plane) -> np.ndarray:
    """A colour (3,) multiplied by a tone (h, w), as (3, h, w)."""
    return np.asarray(colour, np.float32)[:, None, None] * tone


def window(size: int, x0: float, y0: float, x1: float, y1: float) -> Box:
    """The box of pixels around bounds given as fractions of an image of `size` pixels, cut at the image's edge."""
    left, right = max(0, int(x0 * size) - 1), min(size, int(x1 * size) + 2)
    top, bottom = max(0, int(y0 * size) - 1), min(size, int(y1 * size) + 2)
    return slice(top, max(bottom, top)), slice(left, max(right, left))


def soften(plane: np.ndarray, variance: float) -> np.ndarray:
    """Blur (..., h, w) by a variance in pixels², with three-tap passes; pixels at the border are repeated.

    Returns the blurred planes.
    """
    while variance > 1e-4:
        side = min(variance, 0.5) / 2.0
        variance -= 0.5
        step = plane[..., 1:] - plane[..., :-1]
        step *= side
        plane = plane.copy()
        plane[..., :-1] += step
        plane[..., 1:] -= step
        step = plane[..., 1:, :] - plane[..., :-1, :]
        step *= side
        plane[..., :-1, :] += step
        plane[..., 1:, :] -= step
    return plane


def _periodic_blur(tile: np.ndarray, passes: int, axes: tuple[int, ...]) -> np.ndarray:
    for _ in range(passes):
        for axis in axes:
            tile = 0.5 * tile + 0.25 * (np.roll(tile, 1, axis) + np.roll(tile, -1, axis))
    return tile


@lru_cache(maxsize=8)
def tile(kind: str) -> np.ndarray:
    """A periodic TILE × TILE noise field, flat, mean 0 and deviation 1: 'grain', 'cloud', 'skin' (both of them) or
    'strand' (long in rows)."""
    if kind == "skin":
        return (0.92 * tile("cloud") + 0.39 * np.roll(tile("grain"), 1234)).astype(np.float32)
    rng = np.random.Generator(np.random.PCG64({"grain": 1, "cloud": 2, "strand": 3}[kind]))
    field = rng.random((TILE, TILE)) - 0.5
    if kind == "grain":
        field = _periodic_blur(field, 1, (0, 1))
    elif kind == "cloud":
        layers = [_periodic_blur(np.roll(field, 37 * k, 0), 4**k, (0, 1)) * 4.0**k for k in range(1, 5)]
        field = np.sum(layers, axis=0)
    else:
        coarse = _periodic_blur(np.roll(field, 91, 0), 6, (1,)) * 2.0
        field = _periodic_blur(_periodic_blur(field, 1, (1,)) + coarse, 300, (0,))
    field = (field - field.mean()) / field.std()
    return np.ascontiguousarray(field.astype(np.float32).ravel())


def sample(kind: str, column: Plane, row: Plane) -> Plane:
    """The noise tile of a kind, read at (row, column) in texels without interpolation; the tile repeats without end."""
    index = row.astype(np.int32) & (TILE - 1)
    index *= TILE
    return tile(kind).take(index + (column.astype(np.int32) & (TILE - 1)))
