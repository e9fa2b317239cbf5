"""Things that hide part of the face: a hand, a scarf, a face mask, a bar, a cup. All are labelled background."""

import math

import numpy as np

from fra_dist.synthetic.face import BACKGROUND, Sheet, linear
from fra_dist.synthetic.feature_curves import Layout
from fra_dist.synthetic.person import Person
from fra_dist.synthetic.planes import Plane, blend, ramp, sample
from fra_dist.synthetic.shot import Shot
from fra_dist.synthetic.surroundings import Canvas


def paint_face_mask(sheet: Sheet, shot: Shot, lay: Layout) -> None:
    """Paint a pleated face mask over nose, mouth and chin, lying on the surface."""
    x, y = np.abs(sheet.hits.x), sheet.hits.y
    top = lay.nose_tip - 0.10 + 0.55 * x * x
    front = ramp(sheet.hits.z, 0.05, 0.15)
    soft = 0.7 * sheet.pixel
    cover = ramp(y - top, -soft, soft) * front * ramp(x + 0.25 * np.maximum(y - 0.6, 0.0), 0.60 + soft, 0.60 - soft)
    strap = ramp(np.abs(y - 0.24 - 0.25 * (0.6 - x)), 0.018 + soft, 0.012) * ramp(x, 0.56, 0.6)
    cover = np.maximum(cover, strap * ramp(sheet.hits.z, -0.12, -0.08))
    pleat = 1.0 - 0.18 * ramp(np.abs((y * 7.0) % 1.0 - 0.5), 0.12, 0.0) - 0.3 * ramp(np.abs(y - top - 0.03), 0.02, 0.0)
    colour = linear((0.62, 0.80, 0.88)) if shot.prop[0] < 0.6 else linear((0.15 + 0.8 * shot.prop[1],) * 3)
    blend(sheet.albedo, (slice(None), slice(None)), cover, colour[:, None, None] * pleat)
    sheet.region[cover > 0.5] = BACKGROUND
    sheet.glossy *= 1.0 - cover


def _lay(pic: Canvas, x0: float, y0: float, x1: float, y1: float) -> tuple[tuple[slice, slice], Plane, Plane]:
    box = pic.box(x0, y0, x1, y1)
    return box, pic.qx[box], pic.qy[box]


def _cover(pic: Canvas, box: tuple[slice, slice], alpha: Plane, colour: np.ndarray) -> None:
    blend(pic.colour, box, alpha, colour)
    pic.region[box][alpha > 0.5] = BACKGROUND


def _scarf(pic: Canvas, p: Person, shot: Shot) -> None:
    cx, cy = pic.project(0.0, 0.9, 0.2)
    height = 0.05 - 0.32 * shot.prop[0]
    box, x, y = _lay(pic, cx - 1.2, cy - 0.6, cx + 1.2, cy + 1.2)
    if x.size == 0:
        return
    x, y = x - cx, y - cy
    fold = sample("cloud", x * 18.0 + shot.noise, y * 70.0)
    top = height - 0.16 * (1 - x * x) + 0.02 * fold
    soft = pic.pixel
    alpha = ramp(y - top, -soft, soft) * ramp(np.abs(x), 0.80 + soft, 0.80 - soft) * ramp(y, 0.75, 0.65)
    light = (0.55 + 0.16 * fold + 0.25 * np.sin(y * 18.0 - 5.0 * x * x)) * (0.5 + 0.5 * shot.key)
    light *= np.clip(1.05 - 0.8 * x * x + 0.4 * shot.light[0] * x, 0.15, 1.5)
    colour = linear((0.2 + 0.75 * shot.prop[1], 0.15 + 0.6 * shot.prop[2], 0.2 + 0.6 * shot.prop[3]))
    _cover(pic, box, alpha, colour[:, None, None] * np.maximum(light, 0.1))


def _hand(pic: Canvas, p: Person, shot: Shot) -> None:
    """A palm and four fingers as capsules, reaching in from below."""
    side = -1.0 if shot.prop[0] < 0.5 else 1.0
    tx, ty = pic.project(side * 0.42 * shot.prop[1], 0.35 + 0.5 * shot.prop[2], 0.7)
    lean = side * (0.25 + 0.5 * shot.prop[3])
    box, x, y = _lay(pic, tx - 1.3, ty - 0.75, tx + 1.3, ty + 2.5)
    if x.size == 0:
        return
    cos, sin = math.cos(lean), math.sin(lean)
    u, v = (x - tx) * cos + (y - ty) * sin, (y - ty) * cos - (x - tx) * sin
    alpha, light = np.zeros_like(u), np.zeros_like(u)
    parts = [
        (-0.27, -0.10, 0.45, 0.085),
        (-0.09, -0.26, 0.4, 0.092),
        (0.10, -0.28, 0.4, 0.094),
        (0.28, -0.18, 0.45, 0.088),
    ]
    parts += [(0.0, 0.48, 2.5, 0.30)]
    soft = pic.pixel
    for cx, start, stop, radius in parts:
        du, dv = u - cx, v - np.clip(v, start, stop)
        gap = np.sqrt(du * du + dv * dv) * (1.0 / radius)
        cover = ramp((gap - 1.0) * radius, soft, -soft)
        shade = np.sqrt(np.maximum(1.0 - gap * gap, 0.05)) * (0.75 + 0.4 * shot.light[0] * du / radius)
        np.copyto(light, shade, where=cover > 0.5 * alpha)
        np.maximum(alpha, cover, out=alpha)
    nails = ramp(np.abs(np.abs(u % 0.187 - 0.093)), 0.055, 0.045) * ramp(np.abs(v + 0.24), 0.05, 0.04) * 0.15
    light = (0.35 + 0.65 * light) * (0.35 * shot.ambient + 0.75 * shot.key) * (1.0 + nails)
    _cover(
        pic, box, alpha, linear(p.skin)[:, None, None] * light * np.array(shot.key_colour, np.float32)[:, None, None]
    )


def _bar(pic: Canvas, p: Person, shot: Shot) -> None:
    """A straight bar or pole at any angle."""
    angle = math.pi * shot.prop[0]
    cx, cy = 1.0 * (shot.prop[1] - 0.5), 1.2 * (shot.prop[2] - 0.35)
    off = (pic.qx - cx) * math.sin(angle) - (pic.qy - cy) * math.cos(angle)
    half = 0.08 + 0.14 * shot.prop[3]
    alpha = ramp(np.abs(off), half + pic.pixel, half - pic.pixel)
    light = 0.25 + 0.9 * np.maximum(1.0 - (off / half + 0.3) ** 2, 0.0)
    tone = linear((0.25 + 0.6 * shot.prop[3], 0.2 + 0.6 * shot.prop[1], 0.25 + 0.5 * shot.prop[2]))
    _cover(pic, (slice(None), slice(None)), alpha, tone[:, None, None] * light)


def _cup(pic: Canvas, p: Person, shot: Shot) -> None:
    """A cup held before the mouth."""
    cx, cy = pic.project(0.25 * (shot.prop[0] - 0.5), 0.62, 0.95)
    box, x, y = _lay(pic, cx - 0.5, cy - 0.2, cx + 0.5, cy + 0.95)
    if x.size == 0:
        return
    x, y = x - cx, y - cy
    half = 0.33 - 0.08 * y
    soft = pic.pixel
    alpha = (
        ramp(np.abs(x) - half, soft, -soft)
        * ramp(y + 0.10 - 0.05 * (1 - (x / half) ** 2), -soft, soft)
        * ramp(y, 0.85, 0.80)
    )
    light = (0.45 + 0.5 * np.maximum(1.0 - (x / half - 0.5 * shot.light[0]) ** 2, 0.0)) * (0.4 + 0.6 * shot.key)
    light *= 1.0 - 0.25 * ramp(np.abs(y - 0.25), 0.13, 0.10)
    tone = linear((0.35 + 0.6 * shot.prop[1], 0.3 + 0.6 * shot.prop[2], 0.3 + 0.6 * shot.prop[3]))
    _cover(pic, box, alpha, tone[:, None, None] * light)


_PAINTERS = {"scarf": _scarf, "hand": _hand, "bar": _bar, "cup": _cup}


def paint_occluder(pic: Canvas, p: Person, shot: Shot) -> None:
    """Paint the thing that hides the face, if any, except the face mask, which lies on the head."""
    if shot.occlusion in _PAINTERS:
        _PAINTERS[shot.occlusion](pic, p, shot)
