"""What stands behind and below the head: background clutter, clothes, hair that hangs, and the neck."""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from fra_dist.synthetic.face import BACKGROUND, HAIR, SKIN, linear
from fra_dist.synthetic.hair import length_below
from fra_dist.synthetic.person import Person
from fra_dist.synthetic.planes import Box, Plane, blend, ramp, sample, smooth_step, tinted, window
from fra_dist.synthetic.shot import Shot

_COARSE = 40


@dataclass(slots=True)
class Canvas:
    """An image and its map of regions while they are painted, with the coordinates of their pixels."""

    colour: np.ndarray
    """The image in linear light (3, S, S)."""
    region: np.ndarray
    """Region of every pixel (S, S), as in `face`."""
    qx: Plane
    """x of the pixels' centres, in head units from the head's centre (S, S)."""
    qy: Plane
    """y of the pixels' centres, in head units from the head's centre (S, S)."""
    pixel: float
    """Width of a pixel in head units."""
    size: int
    """Side S of the picture in pixels."""
    turn: np.ndarray
    """Rotation (3, 3) from the head frame to the image frame."""

    def box(self, x0: float, y0: float, x1: float, y1: float) -> Box:
        """The box of pixels around bounds in head units from the head's centre, cut at the image's edge."""
        left, top, unit = float(self.qx[0, 0]), float(self.qy[0, 0]), 1.0 / (self.pixel * self.size)
        return window(self.size, (x0 - left) * unit, (y0 - top) * unit, (x1 - left) * unit, (y1 - top) * unit)

    def project(self, x: float, y: float, z: float) -> tuple[float, float]:
        """(qx, qy) in the image frame of a point of the head frame."""
        t = self.turn
        return (float(t[0, 0] * x + t[0, 1] * y + t[0, 2] * z), float(t[1, 0] * x + t[1, 1] * y + t[1, 2] * z))


@lru_cache(maxsize=8)
def _stretch(size: int) -> tuple[np.ndarray, np.ndarray]:
    """(lower index, weight) that bring the coarse grid to `size` pixels."""
    place = np.clip((np.arange(size) + 0.5) * (_COARSE / size) - 0.5, 0.0, _COARSE - 1.001)
    low = place.astype(np.int64)
    return low, (place - low).astype(np.float32)


@lru_cache(maxsize=1)
def _places() -> tuple[Plane, Plane]:
    grid = (np.arange(_COARSE, dtype=np.float32) + 0.5) / _COARSE
    x, y = np.meshgrid(grid, grid)
    return x, y


def backdrop(shot: Shot, size: int) -> np.ndarray:
    """Surroundings out of focus (3, S, S): a gradient, then patches, bars and lamps of varied sharpness."""
    b = shot.backdrop
    x, y = _places()
    hue = np.array([b[0], 0.5 * (b[0] + b[1]), b[1]], np.float32) * 0.35 + 0.65
    bright = 0.03 + 0.75 * b[2] ** 1.6
    slope = 1.0 + (b[3] - 0.5) * (x - 0.5) + (b[4] - 0.6) * 1.6 * (y - 0.5)
    out = tinted(bright * hue * hue, slope)
    count = int(b[5] * 7.0) if b[6] < 0.8 else 0
    for k, cover in enumerate(_clutter(np.array(b[8 : 8 + 8 * count], np.float32).reshape(count, 8, 1, 1), x, y)):
        tone, warm, soft = b[13 + 8 * k : 16 + 8 * k]
        level = tone**2.2 * 0.9
        change = (
            np.array((level * (0.7 + 0.6 * warm), level, level * (1.25 - 0.6 * warm)), np.float32)[:, None, None] - out
        )
        change *= (0.35 + 0.6 * soft) * cover
        out += change
    if b[6] > 0.6:
        cloud = sample("cloud", x * (60 + 240 * b[7]) + shot.noise, y * 160.0)
        out *= np.clip(1.0 + 0.22 * cloud, 0.1, 2.5)
    return _enlarge(np.maximum(out, 0.002, out=out), size)


def _enlarge(coarse: np.ndarray, size: int) -> np.ndarray:
    """(3, S, S) from the coarse grid, bilinear; columns first, while there are few rows."""
    low, weight = _stretch(size)
    wide = coarse.take(low, axis=2)
    step = coarse.take(low + 1, axis=2)
    step -= wide
    step *= weight
    wide += step
    tall = wide.take(low, axis=1)
    step = wide.take(low + 1, axis=1)
    step -= tall
    step *= weight[:, None]
    tall += step
    return tall


def _clutter(b: np.ndarray, x: Plane, y: Plane) -> Plane:
    """(count, h, w) opacity of slanted boards and round lamps, from eight numbers each (count, 8, 1, 1)."""
    kind, cx, cy, w, h, _, warm, soft = b.transpose(1, 0, 2, 3)
    edge = 1.0 / (0.015 + 0.12 * soft)
    dx, dy = x - cx, y - cy
    board = np.maximum(np.abs(dx + 0.25 * (warm - 0.5) * dy) - 0.04 - 0.22 * w, np.abs(dy) - 0.05 - 0.6 * h * h)
    lamp = np.sqrt(dx * dx + (dy * (0.6 + 0.8 * h)) ** 2) - 0.02 - 0.25 * w * w
    distance = np.where(kind < 0.55, board, lamp)
    distance *= -edge
    return np.minimum(np.maximum(distance + 1.0, 0.0), 1.0)


def _hsv(h: float, s: float, v: float) -> np.ndarray:
    ramp3 = np.clip(np.abs((h * 6.0 + np.array([0.0, 4.0, 2.0])) % 6.0 - 3.0) - 1.0, 0.0, 1.0)
    return linear(v * (1.0 - s + s * ramp3))


@dataclass(frozen=True, slots=True)
class _Body:
    """Shoulders in image-frame head units: middle, height where they meet the neck, width, depth of the neckline."""

    x: float
    y: float
    wide: float
    neckline: float
    neck: float

    def opening(self, across: Plane) -> Plane:
        """y where the clothes begin, by the distance from the middle."""
        return self.y + 0.02 + self.neckline * (1.0 - across * across * (1.0 / 0.21))


def paint_body(pic: Canvas, p: Person, shot: Shot) -> None:
    """Paint shoulders in clothes, hair that hangs behind the neck, then the neck."""
    top = pic.project(0.0, 0.55, -0.22)
    neck = (0.385 + 0.075 * p.masculine) * p.width
    depth = 0.17 + (0.30 if shot.cloth_kind == 1 else 0.05 * shot.cloth[2])
    body = _Body(0.55 * top[0], 1.20 + 0.05 * (1.0 - p.masculine), 1.0 + 0.22 * p.masculine, depth, neck)
    _paint_clothes(pic, shot, body)
    hang = length_below(p)
    if hang > 0:
        _paint_hanging(pic, p, shot, hang)
    _paint_neck(pic, p, shot, top, body)


def _paint_clothes(pic: Canvas, shot: Shot, body: _Body) -> None:
    box = pic.box(-9.0, body.y - 0.1, 9.0, 9.0)
    x, y = pic.qx[box] - body.x, pic.qy[box]
    if x.size == 0:
        return
    across = np.abs(x)
    out = np.maximum(across - 0.34, 0.0) * (1.0 / body.wide)
    shoulder = body.y - 0.06 + 0.52 * out - 0.20 * np.minimum(out, 0.7) ** 2 + 2.2 * np.maximum(out - 0.62, 0.0) ** 2
    soft = pic.pixel
    cover = ramp(y - shoulder, -soft, soft)
    light = 0.62 + 0.30 * np.minimum(np.maximum(shot.light[0] * x, -1.0), 1.0)
    light += 0.10 * sample("cloud", x * 45.0 + shot.noise, y * 28.0)
    light += 0.5 * ramp(y - shoulder, 0.18, 0.0) * max(0.0, -shot.light[1])
    light *= (0.55 + 0.5 * shot.key) * (1.1 - 0.2 * np.minimum(out, 1.5))
    cloth = _hsv(shot.cloth[0], 0.75 * shot.cloth[1], 0.10 + 0.85 * shot.cloth[2])
    gap = y - body.opening(across)
    if shot.cloth_kind == 2:
        light *= 0.55 + 0.6 * smooth_step(np.sin(y * 26.0 + 6.0 * shot.prop[0]), -0.2, 0.2)
    elif shot.cloth_kind == 3:
        light *= 1.0 - 0.5 * ramp(np.abs(across - 0.36 - 0.45 * (y - body.y)), 0.045, 0.02)
    light *= 1.0 - 0.45 * ramp(np.abs(gap - 0.03), 0.035, 0.015) * ramp(across, 0.55, 0.45)
    tint = np.array(shot.key_colour, np.float32)
    blend(pic.colour, box, cover, tinted(cloth * tint, light))
    pic.region[box][cover > 0.5] = BACKGROUND


def _paint_hanging(pic: Canvas, p: Person, shot: Shot, end: float) -> None:
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
    half *= np.sqrt(np.clip((y - ay + 0.62) * 1.3, 0.0, 1.0))
    soft = 1.1 * pic.pixel
    cover = ramp(np.abs(x) - half - swing, soft, -soft) * ramp(y - end - 0.05 * wave, 2 * soft + 0.02, -soft)
    cover *= ramp(y - ay, -0.58, -0.5)
    lines = sample("strand", x * 95.0 + p.noise + 6.0 * np.sin(y * 5.0), y * 60.0)
    round_ = np.clip(np.abs(x) / np.maximum(half, 0.1), 0.0, 1.0)
    side = 1.0 + 0.5 * shot.light[0] * np.clip(x, -1.0, 1.0)
    light = (0.18 + 0.42 * round_ * (1.3 - round_ * round_)) * side * (1.0 + 0.40 * lines) * (0.5 + 0.7 * shot.key)
    colour = linear(p.hair) * np.array(shot.key_colour, np.float32)
    blend(pic.colour, box, cover, tinted(colour + 0.006, light))
    pic.region[box][cover > 0.5] = HAIR


def _paint_neck(pic: Canvas, p: Person, shot: Shot, top: tuple[float, float], body: _Body) -> None:
    bottom = body.y + body.neckline + 0.05
    left, right = min(top[0], body.x) - body.neck - 0.25, max(top[0], body.x) + body.neck + 0.25
    box = pic.box(left, top[1] - 0.15, right, bottom)
    x, y = pic.qx[box], pic.qy[box]
    if x.size == 0:
        return
    v = np.minimum(np.maximum((y - top[1]) * (1.0 / (body.y - top[1])), 0.0), 1.0)
    flare = np.maximum(y - body.y + 0.26, 0.0)
    half = body.neck + 0.03 - 0.05 * v + 1.1 * flare * flare
    middle = top[0] + v * (body.x - top[0])
    u = (x - middle) / half
    soft = pic.pixel
    cover = ramp(np.abs(u), 1.0 + soft / body.neck, 1.0 - soft / body.neck)
    cover *= ramp(y - body.opening(np.abs(x - body.x)), soft, -soft)
    across = np.minimum(u * u, 1.0)
    under = 1.0 - 0.60 * ramp(y - top[1], 0.62, 0.30) * (1.0 - 0.3 * across)
    cord = 0.12 * ramp(np.abs(np.abs(u) - 0.15 - 0.5 * (1.0 - v)), 0.16, 0.02) * v
    key = np.maximum(0.9 * u * shot.light[0] + np.sqrt(1.02 - across) * shot.light[2] + 0.25, 0.0) * (shot.key / 1.25)
    light = (key * under + shot.ambient * 0.75 * (0.4 + 0.6 * under)) * (1.0 - cord) * (1.0 - 0.2 * across)
    skin = linear(p.skin) * np.array(shot.key_colour, np.float32) * np.array([0.95, 0.87, 0.85], np.float32)
    blend(pic.colour, box, cover, tinted(skin, light))
    pic.region[box][cover > 0.5] = SKIN
