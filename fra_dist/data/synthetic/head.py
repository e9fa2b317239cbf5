"""The head as a star-shaped surface, seen by parallel rays: depth, surface coordinates and landmarks.

Head frame: origin between the eyes, inside the head; x to the image's right, y down, z towards the viewer of the
frontal face; lengths in head units. The surface is R(s, t), the distance from the origin in the direction whose
azimuth is θ (s = sin(θ/2)) and whose height is t = y / |p|; this grid has no seam in front and needs no arc tangent.
"""

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from fra_dist.data.synthetic.layout import JAW_POINTS, Layout
from fra_dist.data.synthetic.person import Person
from fra_dist.data.synthetic.pixels import Plane, spot
from fra_dist.data.synthetic.shot import Action, Shot

ROWS, HALF = 112, 80
# A little less than half the grid, so that no direction falls outside the outermost texels' centres.
_ROW_SCALE, _COLUMN_SCALE = ROWS / 2 - 0.51, HALF - 0.51
_STEPS = 6


@lru_cache(maxsize=1)
def directions() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Unit vectors (x, y, z), each (ROWS, HALF), of the half grid with x > 0."""
    t = np.clip((np.arange(ROWS) + 0.5 - ROWS / 2) / _ROW_SCALE, -1, 1)
    angle = 2 * np.arcsin(np.minimum((np.arange(HALF) + 0.5) / _COLUMN_SCALE, 1))
    level = np.sqrt(1 - t * t)[:, None]
    x, z = level * np.sin(angle), level * np.cos(angle)
    return x.astype(np.float32), np.broadcast_to(t[:, None], x.shape).astype(np.float32), z.astype(np.float32)


def mirror(half: np.ndarray) -> np.ndarray:
    """The whole grid (ROWS, 2·HALF) from its half with x > 0."""
    return np.concatenate([half[:, ::-1], half], axis=1)


def _ellipsoid(centre: tuple[float, float], radii: tuple[float, float, float]) -> Plane:
    """R of an ellipsoid around (0, *centre): the far root of |(R d − c) / r|² = 1."""
    x, y, z = directions()
    rx, ry, rz = (1.0 / (r * r) for r in radii)
    a = x * x * rx + y * y * ry + z * z * rz
    b = y * (centre[0] * ry) + z * (centre[1] * rz)
    c = centre[0] ** 2 * ry + centre[1] ** 2 * rz - 1.0
    return (b + np.sqrt(b * b - c * a)) / a


def _soft_max(a: Plane, b: Plane, width: float) -> Plane:
    gap = a - b
    return 0.5 * (a + b + np.sqrt(gap * gap + width * width))


def _skull(p: Person, drop: float) -> Plane:
    """Cranium and jaw, cut below by the plane from the chin to the corner of the jaw."""
    _, y, z = directions()
    cranium = _ellipsoid((-0.22, -0.12), (0.735 * p.width, 0.80, 0.88))
    face = _ellipsoid((0.28, 0.17), (0.615 * p.width * p.jaw, 0.78 * p.chin + drop, 0.62))
    r = _soft_max(cranium, face, 0.10)
    normal = np.maximum(0.90 * y - 0.43 * z, 0.05)
    floor = (0.66 * p.chin + 0.85 * drop) / normal
    return -_soft_max(-r, -floor, 0.10)


def _bumps(p: Person, a: Action, lay: Layout) -> list[tuple[float, float, float, float, float]]:
    """(x, y, radius across, radius down, height) of the soft bumps and hollows of the face but the nose."""
    m, e = lay.mouth, lay.eyes[1]
    low = m.y + m.open_down
    return [
        (0.0, -0.16, 0.26, 0.16, 0.030 * p.masculine),
        (0.30, -0.20, 0.38, 0.13, 0.03 + 0.03 * p.masculine),
        (e.x, 0.0, 0.32, 0.21, -0.085),
        (e.x, 0.0, 0.16, 0.135, 0.055),
        (0.44, 0.24, 0.32, 0.27, 0.035 + 0.02 * p.cheek + 0.06 * a.cheek),
        (0.44, 0.62, 0.35, 0.32, -0.02 + 0.015 * p.cheek),
        (0.0, m.y, 0.42, 0.32, 0.055),
        (0.0, m.y - 0.5 * m.upper - m.open_up, m.width * 1.1, 0.07, 0.035),
        (0.0, low + 0.5 * m.lower, m.width * 0.95, 0.08, 0.045),
        (0.0, low + 1.6 * m.lower, 0.26, 0.07, -0.03),
        (0.0, 0.90 * p.chin + lay.drop, 0.32, 0.21, 0.10 + 0.03 * p.masculine),
        (0.66, -0.28, 0.26, 0.32, -0.03),
        (m.width + 0.03, m.y + m.corner, 0.08, 0.10, -0.02),
    ]


def _relief(p: Person, shot: Shot, lay: Layout, r: Plane) -> None:
    """Raises and hollows the face in place: brow ridge, sockets, cheeks, lips, chin and nose."""
    front = (slice(30, 108), slice(0, 40))
    base = r[front]
    dx, dy, dz = (d[front] for d in directions())
    x, y = base * dx, base * dy
    a = shot.action
    b = np.array(_bumps(p, a, lay), np.float32).T[:, :, None, None]
    base += dz * (b[4] * spot(x, y, b[0], b[1], b[2], b[3])).sum(0)
    height = p.nose_height
    tip = lay.nose_tip / (1.0 + height)
    base_y = lay.nose_base / (1.0 + 0.6 * height)
    v = np.clip((y + 0.12) * (1.0 / (tip + 0.12)), 0.0, 1.0)
    below = np.maximum(y - tip, 0.0) * (1.0 / max(base_y - tip + 0.035, 0.05))
    rise = (0.02 + (height - 0.02) * v * (0.55 + 0.45 * v * v)) * v * np.maximum(1.0 - below * below, 0.0)
    across = x * (1.0 / (0.075 + 0.045 * v + 0.22 * (lay.nose_width - 0.12)))
    base += rise / (1.0 + across * across * (0.6 + 0.4 * across * across))
    base += 0.075 * spot(x, y, lay.nose_width * 0.62, base_y - 0.055, 0.085, 0.075)


def bare_head(p: Person, shot: Shot, lay: Layout) -> np.ndarray:
    """R (ROWS, 2·HALF) of the head without ears and hair."""
    half = _skull(p, lay.drop)
    _relief(p, shot, lay, half)
    return mirror(half)


@lru_cache(maxsize=1)
def whole_directions() -> np.ndarray:
    """(3, ROWS, 2·HALF): unit vectors of the whole grid."""
    x, y, z = directions()
    return np.stack([np.concatenate([-x[:, ::-1], x], 1), mirror(y), mirror(z)])


@lru_cache(maxsize=1)
def _tangents() -> tuple[np.ndarray, np.ndarray]:
    """What a step of R to the next column and to the next row does to the normal, each (3, ROWS, 2·HALF): the unit
    vectors along azimuth and height, over the angle between neighbouring texels."""
    x, y, z = whole_directions().astype(np.float64)
    level = np.maximum(np.sqrt(x * x + z * z), 1e-3)
    azimuth = np.unwrap(np.arctan2(x, z), axis=1)
    across = np.stack([z / level, np.zeros_like(x), -x / level]) / (level * np.maximum(np.gradient(azimuth, axis=1), 1e-3))
    height = np.arcsin(y)
    up = np.stack([-x * y / level, level, -z * y / level]) / np.maximum(np.gradient(height, axis=0), 1e-3)
    return across.astype(np.float32), up.astype(np.float32)


def normal_grids(grid: np.ndarray, turn: np.ndarray) -> list[np.ndarray]:
    """Unit normals (x, y, z) of the surface R = grid on the grid, in the image frame: R e_r − ∇R on the sphere."""
    across, down = np.zeros_like(grid), np.zeros_like(grid)
    np.subtract(grid[:, 2:], grid[:, :-2], out=across[:, 1:-1])
    np.subtract(grid[2:], grid[:-2], out=down[1:-1])
    across *= 0.5
    down *= 0.5
    east, north = _tangents()
    normal = [grid * whole_directions()[k] - across * east[k] - down * north[k] for k in (0, 2)]
    normal.insert(1, grid * whole_directions()[1] - down * north[1])
    nx, ny, nz = normal
    unit = 1.0 / np.sqrt(nx * nx + ny * ny + nz * nz + 1e-9)
    for plane in normal:
        plane *= unit
    return [float(a) * nx + float(b) * ny + float(c) * nz for a, b, c in turn]


def rotation(shot: Shot) -> np.ndarray:
    """(3, 3) from the head frame to the image's: yaw > 0 turns the nose to the image's right, pitch > 0 lifts it,
    roll > 0 turns the head clockwise in the image."""
    cy, sy, cp, sp = math.cos(shot.yaw), math.sin(shot.yaw), math.cos(shot.pitch), math.sin(shot.pitch)
    cr, sr = math.cos(shot.roll), math.sin(shot.roll)
    yaw = np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])
    pitch = np.array([[1, 0, 0], [0, cp, -sp], [0, sp, cp]])
    roll = np.array([[cr, -sr, 0], [sr, cr, 0], [0, 0, 1]])
    # einsum without BLAS: the same bits whatever the library and the thread count.
    return np.einsum("ij,jk,kl->il", roll, pitch, yaw, optimize=False)


def grid_index(x: Plane, y: Plane, z: Plane, r: Plane) -> tuple[Plane, Plane]:
    """Fractional (row, column) of points at distance r; texel i covers [i, i + 1)."""
    flat = x * x
    flat += z * z
    flat = np.sqrt(flat, out=flat)
    column = flat - z
    flat += 1e-12
    column /= flat
    column *= 0.5 * _COLUMN_SCALE * _COLUMN_SCALE
    column = np.copysign(np.sqrt(column, out=column), x, out=column)
    column += HALF
    row = y / r
    row *= _ROW_SCALE
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
        planes = (
            np.ascontiguousarray(q[::step, ::step]) for q in (self.qx, self.qy, self.x, self.y, self.z, self.square)
        )
        return Rays(*planes, self.step)

    def at(self, depth: Plane) -> tuple[Plane, Plane, Plane]:
        """Points (x, y, z) at a depth."""
        cx, cy, cz = self.step
        return self.x + cx * depth, self.y + cy * depth, self.z + cz * depth

    def place(self, depth: Plane) -> tuple[Plane, Plane, Plane]:
        """(distance from the origin, row, column) at a depth."""
        r = np.sqrt(self.square + depth * depth)
        return r, *grid_index(*self.at(depth), r)


def _approach(grid: np.ndarray, rays: Rays, steps: int = _STEPS) -> Plane:
    """The depth of the first meeting, or of the nearest miss, roughly (to about a texel)."""
    flat = grid.ravel()
    top = float(grid.max())
    depth = np.sqrt(np.maximum(top * top - rays.square, 0.0))
    move = gap = depth
    for n in range(steps):
        before = gap
        gap, row, column = rays.place(depth)
        np.floor(row, out=row)
        row *= 2 * HALF
        row += column
        gap -= flat.take(row.astype(np.int64))
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
    depth = _approach(grid, rays.every(step) if step > 1 else rays)
    if step > 1:
        depth = _spread(depth, step, rays.x.shape)
    best, nearest, deepest = depth.copy(), np.full_like(depth, 9.0), np.full_like(depth, 9.0)
    move = gap = depth
    for n in range(2 + min(step, 2)):
        before = gap
        r, row, column = rays.place(depth)
        gap = r - Taps.at(row, column).read(grid)
        np.minimum(deepest, gap, out=deepest)
        distance = np.abs(gap)
        np.copyto(best, depth, where=distance < nearest)
        np.minimum(nearest, distance, out=nearest)
        move = _secant(before, gap, move) if n else 0.8 * gap
        depth = depth - move
    _, row, column = rays.place(best)
    taps = Taps.at(row, column)
    nx, ny, nz = (taps.read(g) for g in normal_grids(grid, turn))
    deepest *= -1.0 / pixel
    deepest += 1.0
    alpha = np.minimum(np.maximum(deepest, 0.0, out=deepest), 1.0, out=deepest)
    return Hits(alpha, *rays.at(best), best, row, column, taps, (nx, ny, nz))


def frontal_depth(grid: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """z of the surface over frontal coordinates."""
    rays = Rays(x, y, x, y, np.zeros_like(x), x * x + y * y, (0.0, 0.0, 1.0))
    z = _approach(grid, rays, 4)
    r, row, column = rays.place(z)
    return z - 0.9 * (r - Taps.at(row, column).read(grid))


def landmarks(bare: np.ndarray, turn: np.ndarray, lay: Layout) -> np.ndarray:
    """(68, 2) in the image frame, head units. Points 17 to 67 lie on the surface, seen or not; the jaw's points follow
    the outline of the face where the head hides its far edge, as annotators place them."""
    x, y = lay.points().T
    z = frontal_depth(bare, x, y)
    out = np.empty((68, 2), np.float32)
    for axis in range(2):
        a, b, c = (float(v) for v in turn[axis])
        out[17:, axis] = a * x + b * y + c * z
    out[:17] = _jaw(bare, turn)
    return out


@lru_cache(maxsize=1)
def _jaw_fans() -> tuple[np.ndarray, np.ndarray, Taps]:
    """Frontal directions (17, 2) of the jaw's points, unit vectors (3, 17, 24) from each towards the viewer, their taps."""
    sweep = np.linspace(-1.0, 1.0, JAW_POINTS)
    around = np.radians(90.0 - 96.0 * sweep)[:, None]  # from the image's left, below, to its right
    out = np.radians(np.linspace(4.0, 74.0, 24))[None, :]
    dx, dy = np.cos(around) * np.cos(out), np.sin(around) * np.cos(out)
    fan = np.stack([dx, dy, np.broadcast_to(np.sin(out), dx.shape)]).astype(np.float32)
    aim = np.concatenate([np.cos(around), np.sin(around)], 1).astype(np.float32)
    return aim, fan, Taps.at(*grid_index(fan[0], fan[1], fan[2], np.ones_like(fan[0])))


def _jaw(bare: np.ndarray, turn: np.ndarray) -> np.ndarray:
    """(17, 2): of each fan's surface points the one that the picture shows farthest out."""
    aim, fan, taps = _jaw_fans()
    x, y, z = fan * taps.read(bare)
    (a, b, c), (d, e, f) = ([float(v) for v in row] for row in turn[:2])
    u, v = a * x + b * y + c * z, d * x + e * y + f * z
    ax, ay = aim[:, :1], aim[:, 1:]
    choice = np.argmax(u * (a * ax + b * ay) + v * (d * ax + e * ay), axis=1)
    rows = np.arange(JAW_POINTS)
    return np.stack([u[rows, choice], v[rows, choice]], 1)
