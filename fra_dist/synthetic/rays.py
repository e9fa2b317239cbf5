"""Parallel rays that meet the head's surface: depth, place on the surface's grid, and normal."""

from dataclasses import dataclass

import numpy as np

from fra_dist.synthetic.head import COLUMN_SCALE, HALF, ROW_SCALE, ROWS, normal_grids
from fra_dist.synthetic.planes import Plane


def grid_index(x: Plane, y: Plane, z: Plane, r: Plane) -> tuple[Plane, Plane]:
    """Fractional (row, column) on the head's grid of points (x, y, z) at distance r from its origin.

    Texel i covers [i, i + 1).
    """
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
    """Places between the centres of a grid's texels, prepared for bilinear reads of any grid of that shape."""

    index: np.ndarray
    """Flat index of the texel above and to the left of each place."""
    right: Plane
    """Weight of the texels on the right, 0 to 1."""
    down: Plane
    """Weight of the texels below, 0 to 1."""

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
        """The values of a grid at these places, by bilinear interpolation."""
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
    """Where the rays of a box of pixels meet the head, as float32 planes (h, w)."""

    alpha: Plane
    """Share of the pixel that the head covers."""
    x: Plane
    """x of the point in the head frame."""
    y: Plane
    """y of the point in the head frame."""
    z: Plane
    """z of the point in the head frame."""
    depth: Plane
    """z of the point in the image frame."""
    row: Plane
    """Fractional row of the point on the head's grid."""
    column: Plane
    """Fractional column of the point on the head's grid."""
    taps: Taps
    """The same places, ready to read any grid of the head."""
    normal: tuple[Plane, Plane, Plane]
    """Unit normal (x, y, z) in the image frame, a plane each."""


@dataclass(frozen=True, slots=True)
class Rays:
    """Parallel rays p = o + c·depth in the head frame, through the points (qx, qy) of the image frame."""

    qx: Plane
    """x of each ray in the image frame."""
    qy: Plane
    """y of each ray in the image frame."""
    x: Plane
    """x of o in the head frame."""
    y: Plane
    """y of o in the head frame."""
    z: Plane
    """z of o in the head frame."""
    square: Plane
    """Squared distance of each ray from the head's origin."""
    step: tuple[float, float, float]
    """The direction c, (x, y, z), that all rays share."""

    @classmethod
    def through(cls, turn: np.ndarray, qx: Plane, qy: Plane) -> "Rays":
        """The rays through image-frame points (qx, qy) of a head whose rotation is `turn` (3, 3)."""
        (a, b, c), (d, e, f), step = ([float(v) for v in row] for row in turn)
        square = qx * qx + qy * qy
        return cls(qx, qy, a * qx + d * qy, b * qx + e * qy, c * qx + f * qy, square, (step[0], step[1], step[2]))

    def every(self, step: int) -> "Rays":
        """A coarser grid of rays: those of every step-th row and every step-th column."""
        x, y, z = (np.ascontiguousarray(q[::step, ::step]) for q in (self.x, self.y, self.z))
        square = np.ascontiguousarray(self.square[::step, ::step])
        return Rays(self.qx[::step, ::step], self.qy[::step, ::step], x, y, z, square, self.step)

    def at(self, depth: Plane) -> tuple[Plane, Plane, Plane]:
        """Points (x, y, z) of the rays at a depth, in the head frame."""
        cx, cy, cz = self.step
        return self.x + cx * depth, self.y + cy * depth, self.z + cz * depth

    def place(self, depth: Plane) -> tuple[Plane, Plane, Plane]:
        """(distance from the origin, row, column) of the rays at a depth."""
        r = np.sqrt(self.square + depth * depth)
        return r, *grid_index(*self.at(depth), r)


def approach(grid: np.ndarray, rays: Rays, top: float, steps: int, offset: np.ndarray | int = 0) -> Plane:
    """Depth at which each ray first meets the surface R = grid, or misses it most narrowly, to about a texel.

    top: the largest R; steps: iterations of the secant rule; offset: where each ray's grid begins, when several grids
    are laid end to end.
    """
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
    """How far to move next: the gap over its rate of change in the last move, which is kept within reason."""
    rate = before - gap
    with np.errstate(divide="ignore", invalid="ignore"):  # a move of -1e-6
        rate /= move + 1e-6
    np.fmax(rate, 0.5, out=rate)  # also for 0 / 0
    return gap / np.minimum(rate, 3.0, out=rate)


def _spread(coarse: Plane, step: int, shape: tuple[int, ...]) -> Plane:
    """The coarse depths on the fine grid, taking the one nearest to the viewer around each pixel."""
    up = np.pad(coarse, ((0, 1), (0, 1)), mode="edge")
    np.maximum(up[:-1], up[1:], out=up[:-1])
    np.maximum(up[:, :-1], up[:, 1:], out=up[:, :-1])
    return up[:-1, :-1].repeat(step, 0).repeat(step, 1)[: shape[0], : shape[1]]


def cast_rays(grid: np.ndarray, rays: Rays, turn: np.ndarray, pixel: float) -> Hits:
    """Follow the rays to the surface R = grid: roughly on every few pixels, then on every pixel by the secant rule.

    turn: rotation (3, 3) of the head; pixel: width of a pixel in head units.
    """
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
