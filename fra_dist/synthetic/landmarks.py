"""The 68 landmarks of faces that are laid out and turned: a chunk at once, each face independent of the others."""

from functools import lru_cache

import numpy as np

from fra_dist.synthetic.feature_curves import JAW_POINTS
from fra_dist.synthetic.head import HALF, ROWS
from fra_dist.synthetic.rays import Rays, Taps, approach, grid_index

_TEXELS = ROWS * 2 * HALF
_REACH = 1.3  # no R of a bare face is larger; a constant keeps a face's bits independent of its neighbours


def landmarks(bare: np.ndarray, turn: np.ndarray, frontal: np.ndarray) -> np.ndarray:
    """Landmarks (n, 68, 2) in the image frame, head units.

    `bare` (n, ROWS, 2·HALF) float32 are the heads, `turn` (n, 3, 3) float32 their rotations, `frontal` (n, 51, 2)
    float32 the points 17 to 67 on the layout. Those lie on the surface, seen or not; the jaw's points follow the
    outline of the face where the head hides its far edge, as annotators place them.
    """
    x, y = np.ascontiguousarray(frontal.transpose(2, 0, 1))
    z = _frontal_depth(bare, x, y)
    out = np.empty((len(bare), 68, 2), np.float32)
    for axis in range(2):
        a, b, c = (turn[:, axis, k, None] for k in range(3))
        out[:, 17:, axis] = a * x + b * y + c * z
    out[:, :17] = _jaw(bare, turn)
    return out


def _frontal_depth(grids: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """z (n, k) of the surfaces over frontal coordinates."""
    offset = _TEXELS * np.arange(len(grids))[:, None]
    rays = Rays(x, y, x, y, np.zeros_like(x), x * x + y * y, (0.0, 0.0, 1.0))
    z = approach(grids, rays, _REACH, 5, offset)
    r, row, column = rays.place(z)
    taps = Taps.at(row, column)
    return z - 0.9 * (r - Taps(taps.index + offset, taps.right, taps.down).read(grids))


@lru_cache(maxsize=1)
def _jaw_fans() -> tuple[np.ndarray, np.ndarray, Taps]:
    """Frontal directions (2, 17, 1) of the jaw's points, vectors (3, 17, 24) from each to the viewer, their taps."""
    sweep = np.linspace(-1.0, 1.0, JAW_POINTS)
    around = np.radians(90.0 - 96.0 * sweep)[:, None]  # from the image's left, below, to its right
    out = np.radians(np.linspace(4.0, 74.0, 24))[None, :]
    dx, dy = np.cos(around) * np.cos(out), np.sin(around) * np.cos(out)
    fan = np.stack([dx, dy, np.broadcast_to(np.sin(out), dx.shape)]).astype(np.float32)
    aim = np.stack([np.cos(around), np.sin(around)]).astype(np.float32)
    return aim, fan, Taps.at(*grid_index(fan[0], fan[1], fan[2], np.ones_like(fan[0])))


def _jaw(bare: np.ndarray, turn: np.ndarray) -> np.ndarray:
    """(n, 17, 2): of each fan's surface points the one that the picture shows farthest out."""
    (ax, ay), fan, taps = _jaw_fans()
    offset = _TEXELS * np.arange(len(bare))[:, None, None]
    shape = (len(bare), *taps.index.shape)
    right, down = np.broadcast_to(taps.right, shape), np.broadcast_to(taps.down, shape)
    reach = Taps(taps.index + offset, right, down).read(bare)
    x, y, z = fan[0] * reach, fan[1] * reach, fan[2] * reach
    (a, b, c), (d, e, f) = ([turn[:, axis, k, None, None] for k in range(3)] for axis in range(2))
    u, v = a * x + b * y + c * z, d * x + e * y + f * z
    choice = np.argmax(u * (a * ax + b * ay) + v * (d * ax + e * ay), axis=2)[:, :, None]
    return np.concatenate([np.take_along_axis(u, choice, 2), np.take_along_axis(v, choice, 2)], 2)
