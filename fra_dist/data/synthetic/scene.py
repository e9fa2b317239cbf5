"""What stands behind and below the head: background clutter, clothes, hair that hangs, and the neck."""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from fra_dist.data.synthetic.face import BACKGROUND, HAIR, SKIN, linear
from fra_dist.data.synthetic.hair import length_below
from fra_dist.data.synthetic.person import Person
from fra_dist.data.synthetic.pixels import Box, Plane, blend, ramp, sample, smooth, window
from fra_dist.data.synthetic.shot import Shot

_COARSE = 48


@dataclass(slots=True)
class Picture:
    """The image in linear light (3, S, S), its regions (S, S), and pixel centres in head units around the head."""

    colour: np.ndarray
    region: np.ndarray
    qx: Plane
    qy: Plane
    pixel: float
    size: int
    turn: np.ndarray

    def box(self, x0: float, y0: float, x1: float, y1: float) -> Box:
        """The pixel box around head-unit bounds relative to the head's centre."""
        left, top, unit = float(self.qx[0, 0]), float(self.qy[0, 0]), 1.0 / (self.pixel * self.size)
        return window(self.size, (x0 - left) * unit, (y0 - top) * unit, (x1 - left) * unit, (y1 - top) * unit)

    def project(self, x: float, y: float, z: float) -> tuple[float, float]:
        """(qx, qy) of a point of the head frame."""
        t = self.turn
        return (float(t[0, 0] * x + t[0, 1] * y + t[0, 2] * z), float(t[1, 0] * x + t[1, 1] * y + t[1, 2] * z))


@lru_cache(maxsize=8)
def _stretch(size: int) -> tuple[np.ndarray, np.ndarray]:
    """(lower index, weight) that bring the coarse grid to `size` pixels."""
    place = np.clip((np.arange(size) + 0.5) * (_COARSE / size) - 0.5, 0.0, _COARSE - 1.001)
    low = place.astype(np.int64)
    return low, (place - low).astype(np.float32)


def backdrop(shot: Shot, size: int) -> np.ndarray:
    """(3, S, S) out-of-focus surroundings: a gradient, then patches, bars and lamps of varied sharpness."""
    b = shot.backdrop
    grid = (np.arange(_COARSE, dtype=np.float32) + 0.5) / _COARSE
    x, y = np.meshgrid(grid, grid)
    hue = np.array([b[0], 0.5 * (b[0] + b[1]), b[1]], np.float32) * 0.35 + 0.65
    bright = 0.03 + 0.75 * b[2] ** 1.6
    slope = 1.0 + (b[3] - 0.5) * (x - 0.5) + (b[4] - 0.6) * 1.6 * (y - 0.5)
    out = np.stack([bright * h * h * slope for h in hue])
    count = int(b[5] * 8.0) if b[6] < 0.8 else 0
    everywhere = (slice(None), slice(None))
    for k in range(count):
        kind, cx, cy, w, h, tone, warm, soft = b[8 + 8 * k : 16 + 8 * k]
        edge = 0.015 + 0.12 * soft
        if kind < 0.55:
            cover = ramp(np.abs(x - cx + 0.25 * (warm - 0.5) * (y - cy)), 0.04 + 0.22 * w + edge, 0.04 + 0.22 * w)
            cover *= ramp(np.abs(y - cy), 0.05 + 0.6 * h * h + edge, 0.05 + 0.6 * h * h)
        else:
            radius = 0.02 + 0.25 * w * w
            cover = ramp(np.hypot(x - cx, (y - cy) * (0.6 + 0.8 * h)), radius + edge, radius)
        level = tone**2.2 * 0.9
        blend(
            out,
            everywhere,
            (0.35 + 0.6 * soft) * cover,
            (level * (0.7 + 0.6 * warm), level, level * (1.25 - 0.6 * warm)),
        )
    if b[6] > 0.45:
        cloud = sample("cloud", x * (60 + 240 * b[7]) + shot.noise, y * 160.0)
        out *= np.clip(1.0 + 0.22 * cloud, 0.1, 2.5)
    low, weight = _stretch(size)
    tall = out[:, low] + weight[:, None] * (out[:, low + 1] - out[:, low])
    return np.maximum(tall[:, :, low] + weight * (tall[:, :, low + 1] - tall[:, :, low]), 0.002)


def _hsv(h: float, s: float, v: float) -> np.ndarray:
    ramp3 = np.clip(np.abs((h * 6.0 + np.array([0.0, 4.0, 2.0])) % 6.0 - 3.0) - 1.0, 0.0, 1.0)
    return linear(v * (1.0 - s + s * ramp3))


def paint_body(pic: Picture, p: Person, shot: Shot) -> None:
    """Shoulders in clothes, hair that hangs behind the neck, then the neck."""
    nx, ny = pic.project(0.0, 0.62, -0.20)
    base = 1.32 + 0.12 * (1.0 - p.masculine)
    cx = 0.55 * nx
    _paint_clothes(pic, p, shot, cx, base)
    hang = length_below(p)
    if hang > 0 or (p.style == "curly" and p.hair_volume > 1.0):
        _paint_hanging(pic, p, shot, max(hang, 0.55))
    _paint_neck(pic, p, shot, (nx, ny), (cx, base + 0.16))


def _paint_clothes(pic: Picture, p: Person, shot: Shot, cx: float, base: float) -> None:
    box = pic.box(-9.0, base - 0.35, 9.0, 9.0)
    x, y = pic.qx[box] - cx, pic.qy[box]
    if x.size == 0:
        return
    wide = 1.05 + 0.25 * p.masculine
    across = np.abs(x) * (1.0 / wide)
    shoulder = base - 0.10 + 0.16 * across + 0.20 * across**4
    soft = pic.pixel
    cover = ramp(y - shoulder, -soft, soft)
    neckline = base + 0.12 + (0.35 if shot.cloth_kind == 1 else 0.0) * np.maximum(1.0 - np.abs(x) / 0.32, 0.0)
    chest = ramp(y - neckline, soft, -soft) * ramp(np.abs(x), 0.52, 0.40)
    light = (
        0.55
        + 0.30 * np.clip(shot.light[0] * x * 0.9, -1.0, 1.0)
        + 0.12 * sample("cloud", x * 45.0 + shot.noise, y * 28.0)
    )
    light *= (0.6 + 0.5 * shot.key) * np.clip(1.15 - 0.25 * across, 0.3, 1.0)
    cloth = _hsv(shot.cloth[0], 0.75 * shot.cloth[1], 0.10 + 0.85 * shot.cloth[2])
    if shot.cloth_kind == 2:
        band = smooth(np.sin(y * 26.0 + 6.0 * shot.prop[0]), -0.2, 0.2)
        light *= 0.55 + 0.6 * band
    elif shot.cloth_kind == 3:
        lapel = ramp(np.abs(np.abs(x) - 0.30 - 0.35 * (y - base)), 0.05, 0.02) * ramp(y, base, base + 0.1)
        light *= 1.0 - 0.5 * lapel
    tint = np.array(shot.key_colour, np.float32)
    blend(pic.colour, box, cover, np.stack([light * c for c in cloth * tint]))
    skin = linear(p.skin) * tint
    blend(pic.colour, box, cover * chest, np.stack([light * 1.1 * c for c in skin]))
    rim = ramp(np.abs(y - neckline), 0.035, 0.01) * ramp(np.abs(x), 0.52, 0.44) * cover
    blend(pic.colour, box, 0.45 * rim, cloth * 0.25)
    region = pic.region[box]
    region[cover > 0.5] = BACKGROUND
    region[(cover * chest > 0.5)] = SKIN


def _paint_hanging(pic: Picture, p: Person, shot: Shot, end: float) -> None:
    ax, ay = pic.project(0.0, -0.25, -0.25)
    box = pic.box(ax - 1.4, ay - 0.9, ax + 1.4, end + 0.15)
    x, y = pic.qx[box] - ax, pic.qy[box]
    if x.size == 0:
        return
    lean = float(pic.turn[0, 1])
    x = x - lean * np.minimum(y, 0.6)
    wave = sample("strand", x * 34.0 + p.noise, y * 30.0)
    swing = 0.035 * np.sin(y * (7.0 if p.style == "wavy" else 3.0) + p.noise) + 0.012 * wave
    volume = 0.72 * p.width + 0.10 * p.hair_volume + (0.07 if p.style == "wavy" else 0.0)
    half = volume + 0.06 * np.clip(y + 0.2, -0.5, 1.0) - 0.25 * ramp(y, 1.0, 2.2)
    half *= np.sqrt(np.clip((y - ay + 0.72) * 1.6, 0.0, 1.0))
    soft = 1.1 * pic.pixel
    cover = ramp(np.abs(x) - half - swing, soft, -soft) * ramp(y - end - 0.05 * wave, 2 * soft + 0.02, -soft)
    lines = sample("strand", x * 95.0 + p.noise + 6.0 * np.sin(y * 5.0), y * 60.0)
    round_ = np.clip(np.abs(x) / np.maximum(half, 0.1), 0.0, 1.0)
    side = 1.0 + 0.5 * shot.light[0] * np.clip(x, -1.0, 1.0)
    light = (0.18 + 0.42 * round_ * (1.3 - round_ * round_)) * side * (1.0 + 0.40 * lines) * (0.5 + 0.7 * shot.key)
    colour = linear(p.hair) * np.array(shot.key_colour, np.float32)
    blend(pic.colour, box, cover, np.stack([light * c + 0.004 for c in colour]))
    pic.region[box][cover > 0.5] = HAIR


def _paint_neck(pic: Picture, p: Person, shot: Shot, top: tuple[float, float], bottom: tuple[float, float]) -> None:
    wide = (0.36 + 0.09 * p.masculine) * p.width
    left, right = min(top[0], bottom[0]) - wide - 0.25, max(top[0], bottom[0]) + wide + 0.25
    box = pic.box(left, top[1] - 0.15, right, bottom[1] + 0.05)
    x, y = pic.qx[box], pic.qy[box]
    if x.size == 0:
        return
    v = np.clip((y - top[1]) * (1.0 / (bottom[1] - top[1])), 0.0, 1.05)
    flare = 0.05 - 0.10 * v + 0.26 * np.maximum(v - 0.62, 0.0) ** 1.0
    u = (x - top[0] - v * (bottom[0] - top[0])) / (wide + flare)
    cover = ramp(np.abs(u), 1.0 + pic.pixel / wide, 1.0 - pic.pixel / wide)
    bare = ramp(y - bottom[1] + 0.04 - 0.10 * (1.0 - u * u), pic.pixel, -pic.pixel)
    nz = np.sqrt(np.maximum(1.0 - u * u, 0.02))
    under = 1.0 - 0.62 * ramp(v, 0.75, 0.30)
    cord = 0.10 * ramp(np.abs(np.abs(u) - 0.25 - 0.35 * (1.0 - v)), 0.16, 0.02)
    tint = np.array(shot.key_colour, np.float32)
    key = np.maximum((u * shot.light[0] + nz * shot.light[2]) + 0.25, 0.0) * (shot.key / 1.25)
    light = (key * under + shot.ambient * 0.7 * (0.45 + 0.55 * under)) * (1.0 - cord) * (1.0 - 0.25 * u * u)
    skin = linear(p.skin) * tint
    blend(pic.colour, box, cover * bare, np.stack([light * c for c in skin * np.array([0.95, 0.88, 0.86], np.float32)]))
    pic.region[box][(cover * bare) > 0.5] = SKIN
