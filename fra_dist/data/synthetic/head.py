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
_STEPS = 9


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
    column = x / np.sqrt(2.0 * flat * (flat + z) + 1e-9)
    return y / r * (ROWS / 2) + ROWS / 2, column * HALF + HALF


def lookup(grid: np.ndarray, row: Plane, column: Plane) -> Plane:
    """The grid read between its texels' centres."""
    row, column = row - 0.5, column - 0.5
    i = np.clip(row, 0, ROWS - 2).astype(np.int64)
    j = np.clip(column, 0, 2 * HALF - 2).astype(np.int64)
    down = (row - i).astype(np.float32)
    right = (column - j).astype(np.float32)
    index = i * (2 * HALF) + j
    flat = grid.ravel()
    top = flat.take(index)
    top += right * (flat.take(index + 1) - top)
    index += 2 * HALF
    bottom = flat.take(index)
    bottom += right * (flat.take(index + 1) - bottom)
    return top + down * (bottom - top)


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


def cast(grid: np.ndarray, turn: np.ndarray, qx: Plane, qy: Plane, pixel: float) -> Hits:
    """Marches the rays through (qx, qy) (image frame, head units; `pixel` is a pixel's width) to the surface R = grid."""
    turn32 = turn.astype(np.float32)
    ox, oy, oz = (turn32[0, i] * qx + turn32[1, i] * qy for i in range(3))
    cx, cy, cz = (float(turn32[2, i]) for i in range(3))
    flat_grid = grid.ravel()
    square = qx * qx + qy * qy
    top = float(grid.max())
    depth = np.sqrt(np.maximum(top * top - square, 0.0))
    best, nearest = depth.copy(), np.full_like(depth, 9.0)
    for step in range(_STEPS + 2):
        x, y, z = ox + cx * depth, oy + cy * depth, oz + cz * depth
        r = np.sqrt(square + depth * depth)
        row, column = grid_index(x, y, z, r)
        if step < _STEPS - 2:
            index = np.minimum(row, ROWS - 0.5).astype(np.int64) * (2 * HALF)
            index += np.minimum(column, 2 * HALF - 0.5).astype(np.int64)
            gap = r - flat_grid.take(index)
        else:
            gap = r - lookup(grid, row, column)
        distance = np.abs(gap)
        closer = distance < nearest
        np.copyto(best, depth, where=closer)
        np.copyto(nearest, distance, where=closer)
        depth -= gap * (0.85 if step else 0.9)
    x, y, z = ox + cx * best, oy + cy * best, oz + cz * best
    row, column = grid_index(x, y, z, np.sqrt(square + best * best))
    alpha = np.clip(1.25 - nearest * (1.0 / pixel), 0.0, 1.0)
    return Hits(alpha, x, y, z, best, row, column)


def frontal_depth(grid: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """z of the surface over frontal coordinates, by a damped fixed point."""
    z = np.full_like(x, 0.8)
    for _ in range(7):
        r = np.sqrt(x * x + y * y + z * z)
        reach = lookup(grid, *grid_index(x, y, z, r))
        z = 0.4 * z + 0.6 * np.sqrt(np.maximum(reach * reach - x * x - y * y, 0.01))
    return z


def landmarks(bare: np.ndarray, turn: np.ndarray, lay: Layout, p: Person) -> np.ndarray:
    """(68, 2) in the image frame, head units. Points 17 to 67 lie on the surface, seen or not; the jaw's points follow
    the outline of the face where the head hides its far edge, as annotators place them."""
    inner = lay.points()
    z = frontal_depth(bare, inner[:, 0], inner[:, 1])
    z[10:14] += 0.0
    face = np.concatenate([inner, z[:, None]], 1)
    out = np.empty((68, 2), np.float32)
    out[17:] = np.einsum("ij,nj->ni", turn[:2], face, optimize=False)
    out[:17] = _jaw(bare, turn)
    return out


def _jaw(bare: np.ndarray, turn: np.ndarray) -> np.ndarray:
    sweep = np.linspace(-1.0, 1.0, JAW_POINTS)
    around = np.radians(90.0 - 96.0 * sweep)[:, None]  # from the image's left, below, to its right
    out = np.radians(np.linspace(4.0, 74.0, 24))[None, :]  # from the side of the head towards the viewer
    dx, dy = np.cos(around) * np.cos(out), np.sin(around) * np.cos(out)
    dz = np.broadcast_to(np.sin(out), dx.shape)
    one = np.ones_like(dx)
    reach = lookup(bare, *grid_index(dx, dy, dz, one))
    points = np.stack([dx, dy, dz], -1) * reach[..., None]
    seen = np.einsum("ij,nkj->nki", turn[:2], points, optimize=False)
    aim = np.concatenate([np.cos(around), np.sin(around)], 1)
    aim = np.einsum("ij,nj->ni", turn[:2, :2], aim, optimize=False)
    choice = np.argmax((seen * aim[:, None]).sum(-1), axis=1)
    return seen[np.arange(JAW_POINTS), choice]
