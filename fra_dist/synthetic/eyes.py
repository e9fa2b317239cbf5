"""The eyes: lids, white, iris, lashes and the light's reflection. Both are painted at once, mirrored at x = 0."""

import numpy as np

from fra_dist.synthetic.face import EYES, Sheet, linear
from fra_dist.synthetic.feature_curves import Layout
from fra_dist.synthetic.person import Person
from fra_dist.synthetic.planes import Box, Plane, blend, ramp, sample, tinted
from fra_dist.synthetic.shot import Shot

IRIS_RADIUS = 0.066
"""Radius of the iris in head units."""


def paint_eyes(sheet: Sheet, p: Person, shot: Shot, lay: Layout) -> tuple[Box, Plane] | None:
    """Paint both eyes on the sheet.

    Returns the box of the eyes and the opacity of the reflections to add after shading, or None when they lie outside.
    """
    box = sheet.around(36, 47, 0.12)
    if sheet.region[box].size == 0:
        return None
    x, y, front = sheet.frontal(box)
    side = np.copysign(np.float32(1.0), x)
    eye = lay.eyes[1]
    u, v = eye.local(np.abs(x), y)
    up, low = eye.lids(u)
    above, below, away = v - up, v - low, np.abs(u)
    soft = 0.75 * sheet.pixel + 0.004
    near = ramp(away, 1.25, 1.0) * front
    _paint_lids(sheet, p, box, above, away, near)
    hole = ramp(above, -soft, soft) * ramp(below, soft, -soft) * ramp(away, 1.06, 0.98) * front
    margin = 0.036 + 0.3 * sheet.pixel
    sheet.mark(box, (away < 1.12) & (above > -margin) & (below < 0.65 * margin) & (front > 0), EYES)
    shadow = 1.0 - 0.50 * ramp(above, 0.045, 0.0)
    white = tinted((0.78, 0.73, 0.70), shadow * (0.86 - 0.22 * u * u))
    white += ramp(u, -0.72, -0.98) * 0.7 * (np.array((0.45, 0.19, 0.17), np.float32)[:, None, None] - white)
    ix = (np.abs(x) - eye.x) * side - (shot.gaze[0] - 0.04 * shot.yaw)
    iy = v - (shot.gaze[1] - 0.010)
    radius = np.sqrt(ix * ix + iy * iy)
    spokes = sample("grain", (ix / (np.abs(ix) + np.abs(iy) + 1e-3)) * 25.0 + p.noise, radius * 90.0)
    tone = shadow * (1.0 + 0.18 * spokes) * (1.25 - 0.9 * ramp(radius, 0.042, IRIS_RADIUS))
    tone *= (1.0 + 4.0 * np.maximum(iy, 0.0)) * ramp(radius, 0.027 - 0.8 * soft, 0.027 + 0.8 * soft)
    white += ramp(radius, IRIS_RADIUS + soft, IRIS_RADIUS - soft) * (tinted(linear(p.iris), tone) + 0.004 - white)
    blend(sheet.albedo, box, hole, white)
    _paint_lashes(sheet, p, box, above, below, u, near)
    sheet.glossy[box] *= 1.0 - 0.9 * hole
    lx, ly, _ = shot.light
    gap = (ix - 0.030 * lx) ** 2 + (iy - 0.030 * ly) ** 2
    size = 0.011 + 0.45 * sheet.pixel
    return box, hole * (0.011 / size) ** 1.2 * ramp(gap, size * size * 1.6, 0.0)


def _paint_lids(sheet: Sheet, p: Person, box: Box, above: Plane, away: Plane, near: Plane) -> None:
    """The crease over the eye and make-up on the lid."""
    fold = 0.034 + 0.016 * p.crease
    off = (above + fold * (1.0 - 0.35 * away)) * (1.0 / (0.010 + 0.5 * sheet.pixel))
    line = 0.55 / (1.0 + off * off) ** 2
    blend(sheet.albedo, box, line * near, linear(p.skin) * 0.28)
    if p.makeup > 0.2:
        lid = ramp(above, -0.075, -0.03) * near * ramp(above, 0.03, 0.0)
        blend(sheet.albedo, box, 0.5 * p.makeup * lid, linear(p.skin) * np.array([0.40, 0.28, 0.33], np.float32))


def _paint_lashes(sheet: Sheet, p: Person, box: Box, above: Plane, below: Plane, u: Plane, near: Plane) -> None:
    thick = (0.010 + 0.008 * p.makeup + 0.004 * (1.0 - p.masculine)) * (1.0 + 0.35 * u)
    off = (above + 0.35 * thick) / (thick + 0.45 * sheet.pixel)
    near = near * ramp(np.abs(u), 1.18, 0.98)
    lash = (0.80 + 0.12 * p.makeup) / (1.0 + off * off) ** 2
    blend(sheet.albedo, box, lash * near, (0.012, 0.008, 0.007))
    off = below * (1.0 / (0.008 + 0.5 * sheet.pixel))
    rim = (0.34 + 0.3 * p.makeup) / (1.0 + off * off) ** 2
    blend(sheet.albedo, box, rim * near, linear(p.skin) * 0.16)
