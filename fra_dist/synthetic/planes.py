"""Small float32 operations on planes of pixels: soft steps, noise tiles, blending, shifting."""

from functools import lru_cache

import numpy as np

Plane = np.ndarray  # (h, w) float32
Box = tuple[slice, slice]

TILE = 256


def ramp(x: Plane, low: float, high: float) -> Plane:
    """0 below `low`, 1 above `high`, straight between; `high` may be the smaller one."""
    scaled = x - low
    scaled *= 1.0 / (high - low)
    return np.minimum(np.maximum(scaled, 0.0, out=scaled), 1.0, out=scaled)


def smooth(x: Plane, low: float, high: float) -> Plane:
    """As `ramp`, with level ends (3t² − 2t³)."""
    t = ramp(x, low, high)
    return t * t * (3.0 - 2.0 * t)


Number = float | np.ndarray  # (k, 1, 1) float32 for k at once


def spot(x: Plane, y: Plane, x0: Number, y0: Number, rx: Number, ry: Number) -> Plane:
    """A soft bump of height 1: (1 + d²)⁻² with d in radii; a Gaussian's shape at a tenth of its cost."""
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
    """Lays `colour`, (3,) or (3, h, w), over canvas (3, S, S) inside the box with opacity alpha (h, w)."""
    target = canvas[:, box[0], box[1]]
    paint = np.asarray(colour, np.float32)
    change = (paint if paint.ndim == 3 else paint[:, None, None]) - target
    change *= alpha
    target += change


def tinted(colour: np.ndarray | tuple[float, float, float], tone: Plane) -> np.ndarray:
    """(3, h, w): a colour (3,) times a tone (h, w)."""
    return np.asarray(colour, np.float32)[:, None, None] * tone


def window(size: int, x0: float, y0: float, x1: float, y1: float) -> Box:
    """The pixel box around image fractions, cut at the image's edge."""
    left, right = max(0, int(x0 * size) - 1), min(size, int(x1 * size) + 2)
    top, bottom = max(0, int(y0 * size) - 1), min(size, int(y1 * size) + 2)
    return slice(top, max(bottom, top)), slice(left, max(right, left))


def soften(plane: np.ndarray, variance: float) -> np.ndarray:
    """Blurs (..., h, w) by this variance in pixels², with three-tap passes; the border is repeated."""
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
    """The noise tile read at (row, column), in texels, nearest, repeated without end."""
    index = row.astype(np.int32) & (TILE - 1)
    index *= TILE
    return tile(kind).take(index + (column.astype(np.int32) & (TILE - 1)))
