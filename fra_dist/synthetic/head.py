"""The head as a star-shaped surface.

Head frame: origin between the eyes, inside the head; x to the image's right, y down, z towards the viewer of the
frontal face; lengths in head units. The surface is R(s, t), the distance from the origin in the direction whose
azimuth is θ (s = sin(θ/2)) and whose height is t = y / |p|; this grid has no seam in front and needs no arc tangent.
"""

import math
from functools import lru_cache

import numpy as np

from fra_dist.synthetic.feature_curves import Layout
from fra_dist.synthetic.person import Person
from fra_dist.synthetic.planes import Plane, spot
from fra_dist.synthetic.shot import Action, Shot

ROWS, HALF = 96, 72
# A little less than half the grid, so that no direction falls outside the outermost texels' centres.
ROW_SCALE, COLUMN_SCALE = ROWS / 2 - 0.51, HALF - 0.51


@lru_cache(maxsize=1)
def directions() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Unit vectors (x, y, z), each (ROWS, HALF), of the half of the grid with x > 0."""
    t = np.clip((np.arange(ROWS) + 0.5 - ROWS / 2) / ROW_SCALE, -1, 1)
    angle = 2 * np.arcsin(np.minimum((np.arange(HALF) + 0.5) / COLUMN_SCALE, 1))
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
    front = (slice(24, 93), slice(0, 36))
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
    """The surface R (ROWS, 2·HALF) of a person's head in this shot, without ears and hair."""
    half = _skull(p, lay.drop)
    _relief(p, shot, lay, half)
    return mirror(half)


@lru_cache(maxsize=1)
def whole_directions() -> np.ndarray:
    """Unit vectors (3, ROWS, 2·HALF) of the whole grid."""
    x, y, z = directions()
    return np.stack([np.concatenate([-x[:, ::-1], x], 1), mirror(y), mirror(z)])


@lru_cache(maxsize=1)
def _tangents() -> tuple[np.ndarray, np.ndarray]:
    """What a step of R to the next column and to the next row does to the normal, each (3, ROWS, 2·HALF): the unit
    vectors along azimuth and height, over the angle between neighbouring texels."""
    x, y, z = whole_directions().astype(np.float64)
    level = np.maximum(np.sqrt(x * x + z * z), 1e-3)
    azimuth = np.unwrap(np.arctan2(x, z), axis=1)
    across = np.stack([z / level, np.zeros_like(x), -x / level]) / (
        level * np.maximum(np.gradient(azimuth, axis=1), 1e-3)
    )
    height = np.arcsin(y)
    up = np.stack([-x * y / level, level, -z * y / level]) / np.maximum(np.gradient(height, axis=0), 1e-3)
    return across.astype(np.float32), up.astype(np.float32)


def normal_grids(grid: np.ndarray, turn: np.ndarray) -> list[np.ndarray]:
    """Unit normals (x, y, z) of the surface R = grid at each texel, in the image frame: R e_r − ∇R on the sphere."""
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
    """The rotation (3, 3) from the head frame to the image frame.

    yaw > 0 turns the nose to the image's right, pitch > 0 lifts it, roll > 0 turns the head clockwise in the image.
    """
    cy, sy, cp, sp = math.cos(shot.yaw), math.sin(shot.yaw), math.cos(shot.pitch), math.sin(shot.pitch)
    cr, sr = math.cos(shot.roll), math.sin(shot.roll)
    yaw = np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])
    pitch = np.array([[1, 0, 0], [0, cp, -sp], [0, sp, cp]])
    roll = np.array([[cr, -sr, 0], [sr, cr, 0], [0, 0, 1]])
    # einsum without BLAS: the same bits whatever the library and the thread count.
    return np.einsum("ij,jk,kl->il", roll, pitch, yaw, optimize=False)
