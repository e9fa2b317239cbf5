"""The eyes: lids, white, iris, lashes and the light's reflection."""

import numpy as np

from fra_dist.data.synthetic.face import EYES, Sheet, linear
from fra_dist.data.synthetic.layout import Eye
from fra_dist.data.synthetic.person import Person
from fra_dist.data.synthetic.pixels import Box, Plane, blend, ramp, sample
from fra_dist.data.synthetic.shot import Shot

IRIS_RADIUS = 0.066


def paint_eye(sheet: Sheet, p: Person, shot: Shot, eye: Eye) -> tuple[Box, Plane] | None:
    """Paints one eye; returns the box and the reflection to add after shading, or None when it lies outside."""
    first = 36 if eye.side < 0 else 42
    box = sheet.around(first, first + 5, 0.12)
    if sheet.region[box].size == 0:
        return None
    x, y, front = sheet.frontal(box)
    u, v = eye.local(x, y)
    up, low = eye.lids(u)
    soft = 0.75 * sheet.pixel + 0.004
    inside = np.abs(u) < 1.12
    near = ramp(np.abs(u), 1.25, 1.0) * front
    _paint_lids(sheet, p, box, v - up, u, eye, near)
    hole = ramp(v - up, -soft, soft) * ramp(v - low, soft, -soft) * ramp(np.abs(u), 1.06, 0.98) * front
    cover = inside & (v > up - 0.034 - 0.3 * sheet.pixel) & (v < low + 0.022 + 0.3 * sheet.pixel) & (front > 0)
    sheet.mark(box, cover, EYES)
    gx = shot.gaze[0] - 0.10 * shot.yaw * 0.4
    ix, iy = x - (eye.x + gx), v - shot.gaze[1] + 0.010
    radius = np.sqrt(ix * ix + iy * iy)
    shadow = 1.0 - 0.50 * ramp(v - up, 0.045, 0.0)
    white = shadow * (0.86 - 0.22 * u * u)
    blend(sheet.albedo, box, hole, np.stack([white * c for c in (0.78, 0.73, 0.70)]))
    corner = ramp(u, -0.72, -0.98) * hole
    blend(sheet.albedo, box, 0.7 * corner, (0.45, 0.19, 0.17))
    disc = ramp(radius, IRIS_RADIUS + soft, IRIS_RADIUS - soft) * hole
    spokes = sample("grain", (ix / (np.abs(ix) + np.abs(iy) + 1e-3)) * 25.0 + p.noise, radius * 90.0)
    tone = shadow * (1.0 + 0.18 * spokes) * (1.25 - 0.9 * ramp(radius, 0.042, IRIS_RADIUS))
    tone *= 1.0 + 4.0 * np.maximum(iy, 0.0)
    blend(sheet.albedo, box, disc, linear(p.iris)[:, None, None] * tone)
    pupil = ramp(radius, 0.027 + 0.8 * soft, 0.027 - 0.8 * soft) * hole
    blend(sheet.albedo, box, pupil, (0.004, 0.004, 0.005))
    _paint_lashes(sheet, p, box, v - up, v - low, u, near)
    sheet.glossy[box] *= 1.0 - 0.9 * hole
    lx, ly, _ = shot.light
    gap = (ix - 0.030 * lx) ** 2 + (iy - 0.030 * ly) ** 2
    size = 0.011 + 0.45 * sheet.pixel
    return box, hole * (0.011 / size) ** 1.2 * ramp(gap, size * size * 1.6, 0.0)


def _paint_lids(sheet: Sheet, p: Person, box: Box, above: Plane, u: Plane, eye: Eye, near: Plane) -> None:
    """The crease over the eye, make-up on the lid, and a dark edge below."""
    fold = 0.034 + 0.016 * p.crease
    off = (above + fold * (1.0 - 0.35 * np.abs(u))) * (1.0 / (0.010 + 0.5 * sheet.pixel))
    line = 0.55 / (1.0 + off * off) ** 2
    blend(sheet.albedo, box, line * near, linear(p.skin) * 0.28)
    if p.makeup > 0.2:
        lid = ramp(above, -0.075, -0.03) * near * ramp(above, 0.03, 0.0)
        blend(sheet.albedo, box, 0.5 * p.makeup * lid, linear(p.skin) * np.array([0.40, 0.28, 0.33], np.float32))


def _paint_lashes(sheet: Sheet, p: Person, box: Box, above: Plane, below: Plane, u: Plane, near: Plane) -> None:
    thick = (0.010 + 0.008 * p.makeup + 0.004 * (1.0 - p.masculine)) * (1.0 + 0.35 * u)
    off = (above + 0.35 * thick) / (thick + 0.45 * sheet.pixel)
    lash = (0.80 + 0.12 * p.makeup) / (1.0 + off * off) ** 2
    ends = ramp(np.abs(u), 1.18, 0.98)
    blend(sheet.albedo, box, lash * near * ends, (0.012, 0.008, 0.007))
    off = below * (1.0 / (0.008 + 0.5 * sheet.pixel))
    rim = (0.34 + 0.3 * p.makeup) / (1.0 + off * off) ** 2
    blend(sheet.albedo, box, rim * near * ends, linear(p.skin) * 0.16)
