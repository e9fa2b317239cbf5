"""Parallel rays that meet the head's surface: depth, place on the grid, normal."""

from dataclasses import dataclass

import numpy as np

from fra_dist.synthetic.head import COLUMN_SCALE, HALF, ROW_SCALE, ROWS, normal_grids
from fra_dist.synthetic.planes import Plane


def grid_index(x: Plane, y: Plane, z: Plane, r: Plane) -> tuple[Plane, Plane]:
    """Fractional (row, column) of points at distance r; texel i covers [i, i + 1)."""
    flat = x * x
    flat += z * z
    flat = np.sqrt(flat, out=flat)
    column = flat - z
    flat += 1e-12
    column /= flat
    column *= 0.5 * COLUMN_SCALE * COLUMN_SCALE
    column = np.copysign(np.sqrt(column, out=column), x, out=column)
    column += HALF
    row = y / r
    row *= ROW_SCALE
    row += ROWS / 2
    return row, column


@dataclass(frozen=True, slots=True)
class Taps:
    """Places between the texels' centres of a grid, ready to be read from any grid."""

    index: np.ndarray
    right: Plane
    down: Plane

    @classmethod
    def at(cls, row: Plane, column: Plane) -> "Taps":
        """Taps at the fractional rows and columns of `grid_index`."""
        down, right = row - 0.5, column - 0.5
        i, j = np.floor(down), np.floor(right)
        down -= i
        right -= j
        i *= 2 * HALF
        i += j
        return cls(i.astype(np.int64), right, down)

    def read(self, grid: np.ndarray) -> Plane:
        """The grid there, bilinear."""
        flat = grid.ravel()
        top = flat.take(self.index)
        change = flat[1:].take(self.index)
        change -= top
        change *= self.right
        top += change
        bottom = flat[2 * HALF :].take(self.index)
        change = flat[2 * HALF + 1 :].take(self.index)
        change -= bottom
        change *= self.right
        bottom += change
        bottom -= top
        bottom *= self.down
        top += bottom
        return top


@dataclass(slots=True)
class Hits:
    """Where the rays of a pixel box meet the head; planes (h, w) float32."""

    alpha: Plane  # how much of the pixel the head covers
    x: Plane  # head frame
    y: Plane
    z: Plane
    depth: Plane  # z of the image frame
    row: Plane  # of the grid
    column: Plane
    taps: Taps
    normal: tuple[Plane, Plane, Plane]  # image frame


@dataclass(frozen=True, slots=True)
class Rays:
    """Parallel rays p = o + c·depth in the head frame, through (qx, qy) of the image frame."""

    qx: Plane
    qy: Plane
    x: Plane
    y: Plane
    z: Plane
    square: Plane
    step: tuple[float, float, float]

    @classmethod
    def through(cls, turn: np.ndarray, qx: Plane, qy: Plane) -> "Rays":
        """The rays of a picture whose head is turned so."""
        (a, b, c), (d, e, f), step = ([float(v) for v in row] for row in turn)
        square = qx * qx + qy * qy
        return cls(qx, qy, a * qx + d * qy, b * qx + e * qy, c * qx + f * qy, square, (step[0], step[1], step[2]))

    def every(self, step: int) -> "Rays":
        """The rays of every step-th row and column."""
        x, y, z = (np.ascontiguousarray(q[::step, ::step]) for q in (self.x, self.y, self.z))
        square = np.ascontiguousarray(self.square[::step, ::step])
        return Rays(self.qx[::step, ::step], self.qy[::step, ::step], x, y, z, square, self.step)

    def at(self, depth: Plane) -> tuple[Plane, Plane, Plane]:
        """Points (x, y, z) at a depth."""
        cx, cy, cz = self.step
        return self.x + cx * depth, self.y + cy * depth, self.z + cz * depth

    def place(self, depth: Plane) -> tuple[Plane, Plane, Plane]:
        """(distance from the origin, row, column) at a depth."""
        r = np.sqrt(self.square + depth * depth)
        return r, *grid_index(*self.at(depth), r)


def approach(grid: np.ndarray, rays: Rays, top: float, steps: int, offset: np.ndarray | int = 0) -> Plane:
    """The depth of the first meeting, or of the nearest miss, roughly (to about a texel). `top` is the largest R;
    `offset` tells rays through several grids laid end to end where theirs begins."""
    flat = grid.ravel()
    depth = np.sqrt(np.maximum(top * top - rays.square, 0.0))
    move = gap = depth
    for n in range(steps):
        before = gap
        gap, row, column = rays.place(depth)
        np.floor(row, out=row)
        row *= 2 * HALF
        row += column
        gap -= flat.take(row.astype(np.int64) + offset)
        move = _secant(before, gap, move) if n else 0.8 * gap
        depth = np.maximum(depth - move, -0.4)
    return depth


def _secant(before: Plane, gap: Plane, move: Plane) -> Plane:
    """How far to go on: the gap over its rate of change in the last move, which is kept within reason."""
    rate = before - gap
    rate /= move + 1e-6
    np.maximum(rate, 0.5, out=rate)
    return gap / np.minimum(rate, 3.0, out=rate)


def _spread(coarse: Plane, step: int, shape: tuple[int, ...]) -> Plane:
    """The coarse depths on the fine grid, taking the one nearest to the viewer around each pixel."""
    up = np.pad(coarse, ((0, 1), (0, 1)), mode="edge")
    np.maximum(up[:-1], up[1:], out=up[:-1])
    np.maximum(up[:, :-1], up[:, 1:], out=up[:, :-1])
    return up[:-1, :-1].repeat(step, 0).repeat(step, 1)[: shape[0], : shape[1]]


def cast(grid: np.ndarray, rays: Rays, turn: np.ndarray, pixel: float) -> Hits:
    """Follows the rays (`pixel` is a pixel's width in head units) to the surface R = grid: roughly on every few pixels,
    then on every pixel by the secant rule."""
    step = min(3, max(1, round(0.045 / pixel)))
    depth = approach(grid, rays.every(step) if step > 1 else rays, float(grid.max()), 6)
    if step > 1:
        depth = _spread(depth, step, rays.x.shape)
    deepest, move, gap = np.full_like(depth, 9.0), depth, depth
    last = 1 + step  # coarser starts need more
    for n in range(last + 1):
        before = gap
        r, row, column = rays.place(depth)
        taps = Taps.at(row, column)
        gap = r - taps.read(grid)
        np.minimum(deepest, gap, out=deepest)
        if n < last:
            move = _secant(before, gap, move) if n else 0.8 * gap
            depth = depth - move
    nx, ny, nz = (taps.read(g) for g in normal_grids(grid, turn))
    deepest *= -1.0 / pixel
    deepest += 1.0
    alpha = np.minimum(np.maximum(deepest, 0.0, out=deepest), 1.0, out=deepest)
    return Hits(alpha, *rays.at(depth), depth, row, column, taps, (nx, ny, nz))
