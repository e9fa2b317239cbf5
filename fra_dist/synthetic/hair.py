"""Hair on the head: where it grows, how thick it lies, and its strands."""

import math
from functools import lru_cache

import numpy as np

from fra_dist.synthetic.head import HALF, whole_directions
from fra_dist.synthetic.person import Person
from fra_dist.synthetic.planes import Plane, ramp, sample, smooth_step, soften
from fra_dist.synthetic.rays import Hits
from fra_dist.synthetic.shot import Shot

LONG = ("bob", "long", "wavy")
"""Styles whose hair hangs below the head."""
_ANGLES = (0.0, 22.0, 38.0, 50.0, 62.0, 70.0, 77.0, 84.0, 92.0, 108.0, 125.0, 180.0)


@lru_cache(maxsize=1)
def _azimuth() -> np.ndarray:
    """Degrees from straight ahead of the full grid's columns, negative on the image's left."""
    return np.degrees(2 * np.arcsin(np.clip((np.arange(2 * HALF) + 0.5 - HALF) / (HALF - 0.51), -1, 1)))


_NEXT = np.minimum(np.arange(2 * HALF) + 1, 2 * HALF - 1)
_LAST = np.maximum(np.arange(2 * HALF) - 1, 0)


@lru_cache(maxsize=1)
def _per_column() -> np.ndarray:
    """1 over the way around the head, in head units, from the column before to the next."""
    angle = np.radians(_azimuth())
    return (1.0 / (0.75 * (angle[_NEXT] - angle[_LAST]) + 1e-3)).astype(np.float32)


def _hairline(p: Person) -> np.ndarray:
    """y above which hair grows, (2·HALF,)."""
    top = p.hairline
    recess = p.receding if p.style in ("buzz", "short", "side_part", "curly") else 0.0
    temple = top - 0.25 * recess
    burn = 0.05 + 0.25 * p.masculine
    levels = [
        top - 0.12 * recess,
        top,
        temple + 0.05,
        temple + 0.16,
        -0.36,
        -0.16,
        burn,
        -0.22,
        -0.26,
        -0.10,
        0.42,
        0.50,
    ]
    if p.style == "bald":
        levels = [-1.6] * 5 + [-0.9, -0.6, -0.35, -0.3, -0.1, 0.4, 0.45]
    elif p.style == "fringe":
        low = -0.30 - 0.10 * p.hair_length
        levels[:5] = [low, low, low + 0.02, low + 0.08, -0.1]
    elif p.style in LONG:
        sweep = 0.05 if p.hair_volume < 1.0 else -0.1
        levels[3:] = [temple + 0.16 + sweep, -0.1 + sweep, 0.6, 2.0, 2.0, 2.0, 2.0, 2.0, 2.0]
    azimuth = _azimuth()
    line = np.interp(np.abs(azimuth), _ANGLES, levels)
    side = np.interp(azimuth, (-60, 60), (-1.0, 1.0)) * math.copysign(1.0, p.parting)
    sweeps = {"side_part": 0.10, "fringe": 0.05, "short": 0.03, "bob": 0.08, "long": 0.05, "wavy": 0.08}
    line += sweeps.get(p.style, 0.0) * side * np.interp(np.abs(azimuth), (40, 70), (1.0, 0.0))
    return line.astype(np.float32)


_THICKNESS = {
    "bald": 0.004,
    "buzz": 0.022,
    "short": 0.085,
    "side_part": 0.10,
    "fringe": 0.09,
    "bob": 0.12,
    "long": 0.09,
    "wavy": 0.13,
    "curly": 0.21,
    "bun": 0.045,
}


def grow(p: Person, full: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(field, R with hair) of a head with surface R = `full`, each (ROWS, 2·HALF).

    The field is the distance from the hairline in head units, positive where hair grows.
    """
    dx, dy, dz = whole_directions()
    y = full * dy
    line = _hairline(p)
    # Over a steep stretch of the hairline the distance is far less than the height.
    steep = (line[_NEXT] - line[_LAST]) * _per_column()
    field = (line - y) * (1.0 / np.sqrt(1.0 + steep * steep))
    thick = _THICKNESS[p.style] * p.hair_volume
    cover = smooth_step(field, -0.01, 0.14 if p.style != "fringe" else 0.08)
    lift = 1.0 + 0.7 * ramp(dy, -0.35, -0.95)
    if p.style in ("side_part", "short"):
        lift += 0.35 * ramp(dx * math.copysign(1.0, -p.parting), -0.5, 0.7) * ramp(dy, 0.0, -0.6)
    grown = full + (thick * lift) * cover
    if p.style == "bun":
        gap = dx * dx + (dz + 0.40) ** 2
        grown += 0.26 * smooth_step(gap, 0.13, 0.04) * ramp(dy, 0.0, -0.5)
    return field, soften(grown, 0.5)


def strands(p: Person, hits: Hits) -> Plane:
    """Light and dark along the strands of hair, about -1 to 1, at the places where the rays hit the head."""
    if p.style in ("curly", "buzz", "bald"):
        fine = 90.0 if p.style != "curly" else 42.0
        curl = sample("grain", hits.column * (fine / 45.0) + p.noise, hits.row * (fine / 30.0))
        return curl * (0.5 if p.style == "curly" else 0.3)
    tilt = p.parting
    length = math.sqrt(tilt * tilt + 1.0)
    pole_x, pole_y = tilt / length, -1.0 / length
    a = hits.x * -pole_y + hits.y * pole_x
    b = hits.z + 0.25
    total = np.abs(a) + np.abs(b) + 0.02
    across = a / total
    across = np.where(b >= 0, across, np.copysign(np.float32(2.0), a) - across)
    along = (hits.x * pole_x + hits.y * pole_y) * 60.0
    wave = 7.0 if p.style in ("wavy", "bob") else 2.0
    across = across * 150.0 + p.noise
    if wave > 2.0:
        across += wave * np.sin(hits.y * 9.0 + p.noise)
    return sample("strand", across, along + 128.0) * 0.5


def coverage(p: Person, distance: Plane, lines: Plane, pixel: float) -> Plane:
    """Opacity of the hair (h, w) from the distance to its edge in head units, with loose strands at the edge."""
    loose = {"bald": 0.05, "buzz": 0.05, "curly": 0.04, "fringe": 0.045}.get(p.style, 0.035)
    soft = 0.7 * pixel + (0.10 if p.style in ("buzz", "bald") else 0.012)
    cover = ramp(distance + loose * lines, -soft, soft)
    if p.style in ("buzz", "bald"):
        cover *= 0.85 if p.style == "buzz" else 0.45
    return cover


def length_below(p: Person) -> float:
    """y at which long hair ends, in head units; 0 for hair that does not hang."""
    if p.style == "bob":
        return 0.75 + 0.3 * p.hair_length
    return 1.1 + 1.0 * p.hair_length if p.style in LONG else 0.0


def wears_hat(shot: Shot) -> bool:
    """Whether the person in the shot wears a hat, which covers the hair."""
    return shot.hat != "none"
