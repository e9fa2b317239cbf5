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
from fra_dist.data.synthetic.shot import Shot

ROWS, HALF = 112, 80
_STEPS, _REFINE = 8, 4


@lru_cache(maxsize=1)
def directions() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Unit vectors (x, y, z), each (ROWS, HALF), of the half grid with x > 0."""
    t = (np.arange(ROWS) + 0.5) / ROWS * 2 - 1
    angle = 2 * np.arcsin((np.arange(HALF) + 0.5) / HALF)
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


def _relief(p: Person, shot: Shot, lay: Layout, r: Plane) -> None:
    """Raises and hollows the face in place: brow ridge, sockets, cheeks, lips, chin and nose."""
    front = (slice(30, 108), slice(0, 40))
    base = r[front]
    dx, dy, dz = (d[front] for d in directions())
    x, y = base * dx, base * dy
    a = shot.action
    mouth = lay.mouth
    e = lay.eyes[1]
    bumps = [
        (0.0, -0.16, 0.16, 0.10, 0.030 * p.masculine), (0.30, -0.20, 0.24, 0.08, 0.03 + 0.03 * p.masculine),
        (e.x, 0.0, 0.20, 0.13, -0.085), (e.x, 0.0, 0.10, 0.085, 0.055),
        (0.44, 0.24, 0.20, 0.17, 0.035 + 0.02 * p.cheek + 0.06 * a.cheek), (0.44, 0.62, 0.22, 0.20, -0.02 + 0.015 * p.cheek),
        (0.0, mouth.y, 0.26, 0.20, 0.055), (0.0, mouth.y - 0.5 * mouth.upper - mouth.open_up, mouth.width * 0.7, 0.045, 0.035),
        (0.0, mouth.y + mouth.open_down + 0.5 * mouth.lower, mouth.width * 0.6, 0.05, 0.045),
        (0.0, mouth.y + mouth.open_down + 1.6 * mouth.lower, 0.16, 0.045, -0.03),
        (0.0, 0.90 * p.chin + lay.drop, 0.20, 0.13, 0.10 + 0.03 * p.masculine), (0.66, -0.28, 0.16, 0.20, -0.03),
        (mouth.width + 0.03, mouth.y + mouth.corner, 0.05, 0.06, -0.02),
    ]  # fmt: skip
    for x0, y0, rx, ry, height in bumps:
        base += (height * spot(x, y, x0, y0, 1.6 * rx, 1.6 * ry)) * dz
    height = p.nose_height
    tip = lay.nose_tip / (1.0 + height)
    base_y = lay.nose_base / (1.0 + 0.6 * height)
    v = np.clip((y + 0.12) * (1.0 / (tip + 0.12)), 0.0, 1.0)
    below = np.maximum(y - tip, 0.0) * (1.0 / max(base_y - tip + 0.035, 0.05))
    rise = (0.02 + (height - 0.02) * v * (0.55 + 0.45 * v * v)) * v * np.maximum(1.0 - below * below, 0.0)
    across = x * (1.0 / (0.075 + 0.045 * v + 0.22 * (lay.nose_width - 0.12)))
    base += rise / (1.0 + across * across * (0.6 + 0.4 * across * across))
    base += 0.075 * spot(x, y, lay.nose_width * 0.62, base_y - 0.055, 0.085, 0.075)


def _ears(p: Person, r: Plane) -> None:
    x, y, z = directions()
    box = (slice(30, 90), slice(44, 72))
    ex, ey, ez = (r[box] * d[box] for d in (x, y, z))
    lean = ez + 0.16 + 0.12 * ey
    r[box] += 0.20 * p.ears * spot(lean, ey, 0.0, 0.13, 0.085, 0.30) * np.minimum(1.0, np.maximum(0.0, ex * 4.0 - 1.0))


@dataclass(frozen=True, slots=True)
class Surface:
    """R on the whole grid: of the bare head, and with ears and hair (what the rays meet)."""

    bare: np.ndarray
    full: np.ndarray


def bare_head(p: Person, shot: Shot, lay: Layout) -> tuple[np.ndarray, np.ndarray]:
    """R (ROWS, 2·HALF) without and with ears."""
    half = _skull(p, lay.drop)
    _relief(p, shot, lay, half)
    bare = mirror(half)
    _ears(p, half)
    return bare, mirror(half)


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
    flat = np.sqrt(x * x + z * z)
    column = x / np.sqrt(2.0 * flat * (flat + z) + 1e-5)
    return y / r * (ROWS / 2) + ROWS / 2, column * HALF + HALF


@dataclass(frozen=True, slots=True)
class Taps:
    """Places between the texels' centres of a grid, ready to be read from any grid."""

    index: np.ndarray
    right: Plane
    down: Plane

    @classmethod
    def at(cls, row: Plane, column: Plane) -> "Taps":
        """Taps at fractional rows and columns."""
        row, column = row - 0.5, column - 0.5
        i = np.minimum(np.maximum(row, 0.0), ROWS - 2.0).astype(np.int32)
        j = np.minimum(np.maximum(column, 0.0), 2 * HALF - 2.0).astype(np.int32)
        row -= i
        column -= j
        return cls(i.astype(np.int64) * (2 * HALF) + j, column.astype(np.float32), row.astype(np.float32))

    def read(self, grid: np.ndarray) -> Plane:
        """The grid there, bilinear."""
        flat = grid.ravel()
        top = flat.take(self.index)
        change = flat.take(self.index + 1)
        change -= top
        change *= self.right
        top += change
        below = self.index + 2 * HALF
        bottom = flat.take(below)
        below += 1
        change = flat.take(below)
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


@dataclass(frozen=True, slots=True)
class _Rays:
    """Parallel rays p = o + c·depth in the head frame."""

    x: Plane
    y: Plane
    z: Plane
    square: Plane
    step: tuple[float, float, float]

    @classmethod
    def through(cls, turn: np.ndarray, qx: Plane, qy: Plane) -> "_Rays":
        t = turn.astype(np.float32)
        x, y, z = (t[0, i] * qx + t[1, i] * qy for i in range(3))
        return cls(x, y, z, qx * qx + qy * qy, (float(t[2, 0]), float(t[2, 1]), float(t[2, 2])))

    def at(self, depth: Plane) -> tuple[Plane, Plane, Plane]:
        cx, cy, cz = self.step
        return self.x + cx * depth, self.y + cy * depth, self.z + cz * depth

    def place(self, depth: Plane) -> tuple[Plane, Plane, Plane]:
        """(distance from the origin, row, column) at a depth."""
        r = np.sqrt(self.square + depth * depth)
        return r, *grid_index(*self.at(depth), r)


def _approach(grid: np.ndarray, rays: _Rays) -> Plane:
    """The depth of the first meeting, or of the nearest miss, roughly (to about a texel)."""
    flat = grid.ravel()
    top = float(grid.max())
    depth = np.sqrt(np.maximum(top * top - rays.square, 0.0))
    for _ in range(_STEPS):
        r, row, column = rays.place(depth)
        index = np.minimum(row, ROWS - 0.5).astype(np.int32)
        index *= 2 * HALF
        index += np.minimum(column, 2 * HALF - 0.5).astype(np.int32)
        r -= flat.take(index)
        r *= 0.8
        depth -= r
        np.maximum(depth, -0.4, out=depth)
    return depth


def _spread(coarse: Plane, step: int, shape: tuple[int, ...]) -> Plane:
    """The coarse depths on the fine grid, taking the one nearest to the viewer around each pixel."""
    up = np.pad(coarse, ((0, 1), (0, 1)), mode="edge")
    np.maximum(up[:-1], up[1:], out=up[:-1])
    np.maximum(up[:, :-1], up[:, 1:], out=up[:, :-1])
    return up[:-1, :-1].repeat(step, 0).repeat(step, 1)[: shape[0], : shape[1]]


def cast(grid: np.ndarray, turn: np.ndarray, qx: Plane, qy: Plane, pixel: float) -> Hits:
    """Follows the rays through (qx, qy) (image frame, head units; `pixel` is a pixel's width) to the surface R = grid:
    roughly on every few pixels, then on every pixel by the secant rule."""
    step = max(1, round(0.027 / pixel))
    rays = _Rays.through(turn, qx, qy)
    depth = _approach(grid, _Rays.through(turn, qx[::step, ::step], qy[::step, ::step]) if step > 1 else rays)
    if step > 1:
        depth = _spread(depth, step, qx.shape)
    best, nearest = depth.copy(), np.full_like(depth, 9.0)
    move = gap = np.zeros_like(depth)
    for turn_of in range(_REFINE):
        before = gap
        r, row, column = rays.place(depth)
        gap = r - Taps.at(row, column).read(grid)
        distance = np.abs(gap)
        closer = distance < nearest
        np.copyto(best, depth, where=closer)
        np.copyto(nearest, distance, where=closer)
        if turn_of == 0:
            move = 0.8 * gap
        else:
            fall = (before - gap) / (move + 1e-6)
            move = gap / np.minimum(np.maximum(fall, 0.5, out=fall), 3.0, out=fall)
        depth = depth - move
    _, row, column = rays.place(best)
    alpha = np.minimum(np.maximum(1.25 - nearest * (1.0 / pixel), 0.0), 1.0)
    return Hits(alpha, *rays.at(best), best, row, column, Taps.at(row, column))


def frontal_depth(grid: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """z of the surface over frontal coordinates."""
    rays = _Rays(x, y, np.zeros_like(x), x * x + y * y, (0.0, 0.0, 1.0))
    z = _approach(grid, rays)
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
