"""Things that are worn on the head: glasses and hats."""

import math

import numpy as np

from fra_dist.synthetic.face import BACKGROUND, Sheet, linear
from fra_dist.synthetic.feature_curves import Layout
from fra_dist.synthetic.person import Person
from fra_dist.synthetic.planes import Plane, blend, ramp, sample, smooth_step
from fra_dist.synthetic.shot import Shot
from fra_dist.synthetic.surroundings import Canvas

_RIM = -0.44
_TILT = {"beanie": 0.16, "cap": 0.10}


def raise_hat(shot: Shot, full: np.ndarray, directions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(field, R with the hat) of a head with surface R = `full`; the field is positive where the hat covers the head.

    directions: unit vectors (3, ROWS, 2·HALF) of the grid.
    """
    _, dy, dz = directions
    rim = _RIM + 0.08 * shot.prop[0]
    tilt = _TILT[shot.hat]
    field = rim - full * dy - tilt * (full * dz - 0.75)
    raised = np.maximum(full, full + 0.075 * smooth_step(field, -0.01, 0.05))
    if shot.hat == "beanie":
        raised += 0.05 * smooth_step(field, 0.0, 0.03) * smooth_step(field, 0.22, 0.19) + 0.10 * smooth_step(
            dy, -0.75, -1.0
        )
    else:
        raised += 0.02 * smooth_step(field, 0.05, 0.3)
    return field, raised


def paint_hat(sheet: Sheet, shot: Shot, field: np.ndarray) -> Plane:
    """Colour the hat on the head's sheet and return its opacity (h, w). field: from `raise_hat`."""
    hits = sheet.hits
    distance = hits.taps.read(field)
    cover = ramp(distance, -0.7 * sheet.pixel, 0.7 * sheet.pixel)
    hue = hat_colour(shot)
    if shot.hat == "beanie":
        knit = 0.8 + 0.2 * np.sin(hits.column * 1.9) * np.sin(hits.row * 1.5)
        knit *= 1.0 - 0.35 * ramp(np.abs(distance - 0.2), 0.03, 0.0)
    else:
        knit = 0.9 + 0.04 * sample("grain", hits.column * 4.0, hits.row * 4.0)
    everywhere = (slice(None), slice(None))
    blend(sheet.albedo, everywhere, cover, hue[:, None, None] * knit)
    sheet.region[cover > 0.5] = BACKGROUND
    sheet.glossy *= 1.0 - cover
    return cover


def paint_brim(pic: Canvas, shot: Shot) -> None:
    """Paint the peak of a cap: a curved plate that stands off the forehead, turned with the head."""
    rim = _RIM + 0.08 * shot.prop[0]
    inner, outer = [], []
    for k in range(-6, 7):
        angle = 0.19 * k
        x, z = 0.76 * math.sin(angle), 0.93 * math.cos(angle)
        y = rim - _TILT["cap"] * (z - 0.75)
        inner.append(pic.project(x, y - 0.03, z))
        outer.append(pic.project(1.02 * x, y + 0.10 * math.cos(1.3 * angle), z + 0.52 * math.cos(1.35 * angle)))
    _fill(pic, np.array(inner + outer[::-1]), hat_colour(shot) * 0.55)


def hat_colour(shot: Shot) -> np.ndarray:
    """The colour of the shot's hat: red, green and blue (3,) in linear light, 0 to 1."""
    return linear((0.12 + 0.7 * shot.prop[1], 0.12 + 0.55 * shot.prop[2], 0.12 + 0.6 * shot.prop[3]))


def _fill(pic: Canvas, ring: np.ndarray, colour: np.ndarray) -> None:
    """Fills a polygon (n, 2) in image-frame head units, edges softened, and labels it background."""
    low, high = ring.min(0) - 2 * pic.pixel, ring.max(0) + 2 * pic.pixel
    box = pic.box(float(low[0]), float(low[1]), float(high[0]), float(high[1]))
    x, y = pic.qx[box], pic.qy[box]
    if x.size == 0:
        return
    inside = np.zeros(x.shape, bool)
    nearest = np.full(x.shape, 9.0, np.float32)
    for (x0, y0), (x1, y1) in zip(ring, np.roll(ring, -1, 0), strict=True):
        dx, dy = float(x1 - x0), float(y1 - y0)
        px, py = x - float(x0), y - float(y0)
        along = np.clip((px * dx + py * dy) * (1.0 / (dx * dx + dy * dy + 1e-9)), 0.0, 1.0)
        np.minimum(nearest, (px - along * dx) ** 2 + (py - along * dy) ** 2, out=nearest)
        if abs(dy) > 1e-9:
            inside ^= ((py >= 0) != (y - float(y1) >= 0)) & (px < py * (dx / dy))
    signed = np.sqrt(nearest) * np.where(inside, 1.0, -1.0)
    cover = ramp(signed, -0.7 * pic.pixel, 0.7 * pic.pixel)
    blend(pic.colour, box, cover, colour[:, None, None] * (0.75 + 0.35 * shade_down(y)))
    pic.region[box][cover > 0.5] = BACKGROUND


def shade_down(y: Plane) -> Plane:
    """A plane that falls from 1 at the top row to 0 at the bottom row: the look of a round thing lit from above."""
    top, bottom = float(y[0, 0]), float(y[-1, 0])
    return 1.0 - (y - top) * (1.0 / max(bottom - top, 1e-6))


def paint_glasses(pic: Canvas, shot: Shot, p: Person, lay: Layout) -> None:
    """Paint frames and lenses in a plane before the eyes, and the arms to the ears."""
    if shot.glasses == "none":
        return
    depth = 0.86
    turn = pic.turn
    corners = [pic.project(sx * 0.62, sy, depth) for sx in (-1, 1) for sy in (-0.24, 0.30)]
    xs, ys = [c[0] for c in corners], [c[1] for c in corners]
    box = pic.box(min(xs), min(ys), max(xs), max(ys))
    if pic.qx[box].size == 0:
        return
    # Back from the image to the plane's own axes: a 2 × 2 inverse of the turned x and y directions.
    ox, oy = pic.project(0.0, 0.03, depth)
    a, b, c, d = (float(turn[i, j]) for i, j in ((0, 0), (0, 1), (1, 0), (1, 1)))
    det = a * d - b * c
    qx, qy = pic.qx[box] - ox, pic.qy[box] - oy
    x, y = (d * qx - b * qy) / det, (a * qy - c * qx) / det
    sun = shot.glasses == "sun"
    half_w, half_h = (0.235, 0.165) if sun else (0.20, 0.135 + 0.05 * shot.prop[0])
    corner = 0.9 if shot.glasses == "round" else 0.45
    wide = 0.013 + 0.02 * shot.prop[1]
    soft = 0.7 * pic.pixel
    u = (np.abs(x) - 0.5 * (half_w + 0.045) * 2.0) * (1.0 / half_w)
    v = y * (1.0 / half_h)
    square = np.maximum(np.abs(u), np.abs(v))
    distance = (corner * np.sqrt(u * u + v * v) + (1.0 - corner) * square * (1.0 + 0.22 * np.abs(u * v)) - 1.0) * min(
        half_w, half_h
    )
    rim = ramp(np.abs(distance), wide + soft, wide - 0.5 * soft)
    bridge = ramp(np.abs(y + 0.025 + 0.5 * x * x), 0.016 + soft, 0.012) * ramp(np.abs(x), 0.09, 0.06)
    rim = np.maximum(rim, bridge)
    lens = ramp(distance, soft, -soft)
    if sun:
        tone = (0.02 + 0.05 * shade_down(y)) * (1.0 + np.maximum(0.0, shot.light[0] * x * 3.0))
        blend(pic.colour, box, 0.93 * lens, np.stack([tone * c for c in (1.0, 0.95, 0.9)]))
        pic.region[box][(np.maximum(lens, rim) > 0.5)] = BACKGROUND
    else:
        glare = ramp(np.abs(u - 0.5 * v + 0.35), 0.22, 0.05) * lens * 0.10 * shot.key
        blend(pic.colour, box, glare, (0.9, 0.95, 1.0))
    frame = (
        linear((0.10, 0.09, 0.09))
        if shot.prop[2] < 0.55
        else linear((0.35 + 0.3 * shot.prop[3], 0.22, 0.14 + 0.2 * shot.prop[0]))
    )
    blend(pic.colour, box, 0.95 * rim, frame[:, None, None] * (0.7 + 0.9 * ramp(y, 0.0, -0.15)))
    _paint_arms(pic, frame, wide, half_w, depth)


def _paint_arms(pic: Canvas, frame: np.ndarray, wide: float, half_w: float, depth: float) -> None:
    for side in (-1.0, 1.0):
        start = pic.project(side * (2.0 * half_w + 0.045), -0.02, depth - 0.02)
        stop = pic.project(side * 0.74, -0.02, -0.08)
        if (stop[0] - start[0]) * side < 0.02:
            continue
        dx, dy = stop[0] - start[0], stop[1] - start[1]
        box = pic.box(
            min(start[0], stop[0]), min(start[1], stop[1]) - 0.05, max(start[0], stop[0]), max(start[1], stop[1]) + 0.05
        )
        x, y = pic.qx[box], pic.qy[box]
        if x.size == 0:
            continue
        off = np.abs((x - start[0]) * dy - (y - start[1]) * dx) * (1.0 / (dx * dx + dy * dy) ** 0.5)
        soft = 0.7 * pic.pixel
        along = (x - start[0]) * side
        inside = ramp(along, -soft, soft) * ramp(along - abs(dx), soft, -soft)
        blend(pic.colour, box, 0.9 * ramp(off, wide + soft, wide - soft) * inside, frame * 0.7)
