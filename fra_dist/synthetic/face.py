"""Skin and features as colour on the head (albedo, linear light), with the region of every pixel."""

from dataclasses import dataclass

import numpy as np

from fra_dist.synthetic.feature_curves import Layout
from fra_dist.synthetic.person import Person
from fra_dist.synthetic.planes import Box, Plane, blend, ramp, sample, smooth_step, spot, tinted
from fra_dist.synthetic.rays import Hits
from fra_dist.synthetic.shot import Shot

BACKGROUND, HAIR, SKIN, BROWS, EYES, NOSE, MOUTH = range(7)


@dataclass(slots=True)
class Sheet:
    """The head's box of pixels (h, w): surface, colour, gloss and regions."""

    hits: Hits
    """Where the pixels' rays meet the head."""
    pixel: float
    """Width of a pixel in head units."""
    albedo: np.ndarray
    """Colour of the surface (3, h, w), linear."""
    glossy: Plane
    """How strongly each pixel reflects the key light like a mirror."""
    region: np.ndarray
    """Region of every pixel (h, w), BACKGROUND to MOUTH."""
    points: np.ndarray
    """The 68 landmarks (68, 2) in pixels of this box."""

    def around(self, first: int, last: int, margin: float) -> Box:
        """The box around landmarks first .. last with a margin in head units, cut at the sheet's edge."""
        low = self.points[first : last + 1].min(0) - margin / self.pixel
        high = self.points[first : last + 1].max(0) + margin / self.pixel
        height, width = self.region.shape
        x0, y0 = (int(max(0.0, v)) for v in low)
        x1, y1 = int(min(max(high[0] + 1, 0), width)), int(min(max(high[1] + 1, 0), height))
        return slice(min(y0, y1), y1), slice(min(x0, x1), x1)

    def frontal(self, box: Box) -> tuple[Plane, Plane, Plane]:
        """(x, y) of the head frame inside a box, and a plane that is 1 where the surface faces forward and else 0."""
        return self.hits.x[box], self.hits.y[box], (self.hits.z[box] > 0.1).astype(np.float32)

    def mark(self, box: Box, where: np.ndarray, region: int) -> None:
        """Label the pixels of a box for which `where` is true as a region."""
        self.region[box][where] = region


def linear(colour: tuple[float, ...] | np.ndarray) -> np.ndarray:
    """sRGB to linear light, approximated by the square (the last step of rendering takes the root again)."""
    value = np.asarray(colour, np.float32)
    return value * value


def paint_skin(sheet: Sheet, p: Person, shot: Shot, lay: Layout) -> None:
    """Paint the complexion: blotches, red cheeks and nose, dark sockets, freckles, and lines of age and expression."""
    hits = sheet.hits
    blotches = sample("skin", hits.column * 1.9 + p.noise, hits.row * 2.3)
    blotches *= 0.032
    blotches += 1.0
    np.multiply(linear(p.skin)[:, None, None], blotches, out=sheet.albedo)
    box = sheet.around(17, 67, 0.24)
    x, y, _ = sheet.frontal(box)
    if x.size == 0:
        return
    x = np.abs(x)
    e = lay.eyes[1]
    m = lay.mouth
    shades = np.array(
        [
            (0.40, 0.32, 0.26, 0.2, 0.10 + 0.10 * p.makeup + 0.05 * shot.action.cheek),
            (0.0, lay.nose_tip + 0.03, 0.13, 0.12, 0.10),
            (e.x, 0.03, 0.22, 0.11, 0.10),
            (e.x - 0.03, 0.075, 0.15, 0.045, 0.16 + 0.18 * p.age),
            (e.x - 0.1, -0.06, 0.11, 0.09, 0.20),
            (0.0, lay.nose_base + 0.02, 0.13, 0.035, 0.25),
            (lay.nose_width * 1.02, lay.nose_base - 0.05, 0.025, 0.06, 0.22),
            (0.0, m.y + m.open_down + m.lower + 0.035, 0.13, 0.03, 0.18),
        ],
        np.float32,
    ).T[:, :, None, None]
    marks = spot(x, y, shades[0], shades[1], shades[2], shades[3])
    marks *= shades[4]
    red, dark = marks[:3].sum(0), marks[3:].sum(0)
    if p.freckles > 0.02:
        speck = sample("grain", hits.column[box] * 1.9 + p.noise, hits.row[box] * 2.3)
        dark += p.freckles * 0.5 * ramp(speck, 1.0, 2.0) * spot(x, y, 0.25, 0.2, 0.35, 0.25)
    dark += shot.furrow * _creases(p, shot, lay, x, y)
    for channel, (weight, blood) in enumerate(((0.85, 0.0), (1.0, 1.0), (1.05, 0.9))):
        sheet.albedo[channel][box] *= np.maximum(1.0 - weight * dark - blood * red, 0.1)


def _creases(p: Person, shot: Shot, lay: Layout, x: Plane, y: Plane) -> Plane:
    a, m = shot.action, lay.mouth
    fold = 0.16 * p.age + 0.30 * a.corner_up + 0.28 * a.nose_wrinkle + 0.1 * a.lip_raise
    along = np.clip((y - lay.nose_base + 0.06) * (1.0 / (m.y + m.corner + 0.12 - lay.nose_base)), 0.0, 1.0)
    middle = lay.nose_width * 1.05 + along * (m.width + 0.075 - lay.nose_width * 1.05) * (1.35 - 0.35 * along)
    off = (x - middle) * (1.0 / 0.028)
    dark = fold * along * (1.0 - along) * 4.0 / (1.0 + off * off)
    brow = max(a.brow_inner, a.brow_outer) * 0.30 * (0.4 + p.age) + 0.12 * p.age
    if brow > 0.06:
        wave = np.sin(y * 62.0 + x * x * 7.0)
        dark += brow * np.maximum(wave - 0.2, 0.0) * spot(x, y, 0.0, -0.43, 0.36, 0.11)
    frown = 0.55 * a.brow_lower + 0.3 * a.nose_wrinkle + 0.15 * p.age
    if frown > 0.1:
        dark += frown * spot(x, y, 0.045, -0.15, 0.014, 0.075)
    if a.nose_wrinkle > 0.1:
        dark += (
            0.4 * a.nose_wrinkle * np.maximum(np.sin((y - 0.7 * x) * 85.0), 0.0) * spot(x, y, 0.06, 0.03, 0.08, 0.09)
        )
    foot = 0.35 * a.cheek + 0.25 * p.age
    if foot > 0.1:
        e = lay.eyes[1]
        rays = np.maximum(np.sin((y - 0.0) * 95.0 / (0.5 + 3.0 * np.maximum(x - e.x, 0.05))), 0.0)
        dark += foot * rays * spot(x, y, e.x + e.width + 0.075, 0.01, 0.055, 0.08)
    return dark


def paint_beard(sheet: Sheet, p: Person, lay: Layout) -> None:
    """Paint stubble, moustache, goatee or full beard; its pixels stay labelled as skin."""
    if p.beard == "none":
        return
    box = sheet.around(0, 16, 0.2)
    x, y, front = sheet.frontal(box)
    x = np.abs(x)
    m = lay.mouth
    top, _, _, bottom = m.curves(np.zeros(1))
    upper = spot(x, y, 0.10, 0.5 * (lay.nose_base + float(top[0])) + 0.01, 0.15, 0.055)
    upper = ramp(upper, 0.25, 0.6)
    around = (x * (1.0 / (m.width + 0.075))) ** 2 + ((y - float(bottom[0]) - 0.02) * (1.0 / 0.27)) ** 2
    ring = ramp(around, 1.15, 0.75) * ramp(y - lay.nose_base - 0.02, 0.0, 0.04)
    full = ramp(y - (0.62 - 1.25 * np.maximum(x - 0.28, 0.0) ** 1.0 * 1.1 - 0.02), -0.07, 0.07)
    full = np.maximum(full * ramp(y, 0.0, 0.2), upper)
    if p.beard == "moustache":
        cover = upper
    elif p.beard == "goatee":
        cover = np.maximum(upper, ring)
    else:
        cover = full
    strand = sample("strand", sheet.hits.column[box] * 3.0 + x * 20.0, sheet.hits.row[box] * 2.0)
    depth = {"stubble": 0.42, "moustache": 0.92, "goatee": 0.9, "full": 0.94}[p.beard]
    alpha = cover * front * depth * np.minimum(0.9 + 0.12 * strand, 1.0)
    hair = tinted(linear(p.hair) * 1.1, 1.0 + 0.22 * strand)
    blend(sheet.albedo, box, alpha, hair)
    sheet.glossy[box] *= 1.0 - 0.8 * alpha


def paint_brows(sheet: Sheet, p: Person, lay: Layout) -> None:
    """Paint both brows as short hairs, mirrored at x = 0."""
    box = sheet.around(17, 26, 0.09)
    if sheet.region[box].size == 0:
        return
    x, y, front = sheet.frontal(box)
    brow = lay.brows[1]
    w, off = brow.local(np.abs(x), y)
    half = brow.weight * (1.0 - 0.55 * np.maximum(w - 0.25, 0.0))
    alpha = ramp(np.abs(off) - half, 0.012 + 0.6 * sheet.pixel, -0.02 - 0.3 * sheet.pixel)
    alpha *= ramp(w, -0.06, 0.10) * ramp(w, 1.05, 0.86) * front
    hairs = sample("strand", x * 260.0 + off * 160.0 + p.noise, y * 220.0)
    sheet.mark(box, alpha > 0.35, BROWS)
    alpha *= np.minimum(0.82 + 0.18 * hairs, 1.0) * (0.72 + 0.2 * min(p.brow_weight, 1.2))
    colour = linear(p.hair) * (0.55 if p.hair_kind >= 4 else 0.9) + 0.01
    blend(sheet.albedo, box, np.maximum(alpha, 0.0), colour)
    sheet.glossy[box] *= 1.0 - alpha


def paint_nose(sheet: Sheet, p: Person, lay: Layout) -> None:
    """Paint the nostrils; the rest of the nose is relief of the surface."""
    box = sheet.around(27, 35, 0.16)
    if sheet.region[box].size == 0:
        return
    x, y, front = sheet.frontal(box)
    x = np.abs(x)
    v = np.minimum(np.maximum((y - lay.nose_top) * (1.0 / (lay.nose_base - lay.nose_top)), 0.0), 1.0)
    half = 0.068 + (lay.nose_width - 0.062) * v * v
    inside = (x < half + 0.018) & (y > lay.nose_top - 0.05) & (y < lay.nose_base + 0.015) & (front > 0)
    sheet.mark(box, inside, NOSE)
    hole = ramp(spot(x, y, lay.nose_width * 0.48, lay.nose_base - 0.004, 0.050, 0.024), 0.30, 0.65)
    blend(sheet.albedo, box, 0.8 * hole * front, linear(p.skin) * 0.12)


def paint_mouth(sheet: Sheet, p: Person, shot: Shot, lay: Layout) -> None:
    """Paint the lips, and what an open mouth shows."""
    box = sheet.around(48, 67, 0.06)
    if sheet.region[box].size == 0:
        return
    x, y, front = sheet.frontal(box)
    m = lay.mouth
    u = (x - m.x) * (1.0 / m.width)
    top, inner, lower, bottom = m.curves(u)
    soft = 0.8 * sheet.pixel + 0.006
    within = ramp(np.abs(u), 1.0 + soft / m.width, 1.0 - soft / m.width) * front
    lips = ramp(y - top, -soft, soft) * ramp(y - bottom, soft, -soft) * within
    skin = linear(p.skin)
    rose = np.array([0.42, 0.13, 0.13], np.float32) if p.makeup < 0.35 else linear((0.75, 0.22, 0.25))
    depth = 0.45 if p.makeup < 0.35 else 0.35 + 0.5 * p.makeup
    lip = skin * np.array([0.80, 0.55, 0.56], np.float32) * (1.0 - depth) + depth * (0.35 + 0.65 * skin[0]) * rose
    streak = sample("strand", x * 180.0 + p.noise, y * 60.0) * 0.06
    tone = (1.0 + streak) * (1.0 - 0.22 * ramp(y - 0.5 * (inner + lower), 0.01, -0.03))
    blend(sheet.albedo, box, 0.92 * lips, lip[:, None, None] * tone)
    sheet.mark(box, lips > 0.45, MOUTH)
    np.maximum(sheet.glossy[box], 0.5 * lips * ramp(y - lower, 0.0, 0.02), out=sheet.glossy[box])
    line = 0.5 * (inner + lower)
    seam = ramp(np.abs(y - line), 0.010 + 0.7 * soft, 0.3 * soft) * within * 0.75
    blend(sheet.albedo, box, seam, lip * 0.12)
    gap = lower - inner
    if m.open_up + m.open_down > 0.008:
        hole = ramp(y - inner, -0.5 * soft, soft) * ramp(y - lower, 0.5 * soft, -soft) * within
        blend(sheet.albedo, box, hole, (0.05, 0.012, 0.012))
        tongue = smooth_step(y, m.y + 0.35 * m.open_down, m.y + 1.1 * m.open_down) * ramp(np.abs(u), 0.7, 0.4) * hole
        blend(sheet.albedo, box, 0.6 * tongue, (0.32, 0.10, 0.10))
        teeth = ramp(y - inner, 0.075 + 0.2 * soft, 0.055) * ramp(np.abs(u), 0.84, 0.66) * hole * ramp(gap, 0.0, 0.02)
        white = (0.66, 0.62, 0.55)
        tooth = 1.0 - 0.22 * ramp(np.abs(np.abs(x * (1.0 / 0.062)) % 1.0 - 0.5), 0.36, 0.5)
        tooth *= 1.0 - 0.45 * np.minimum(u * u, 1.0)
        blend(sheet.albedo, box, teeth * min(1.0, shot.action.part * 3.0 + 0.35), tinted(white, tooth))
        sheet.glossy[box] *= 1.0 - 0.8 * hole
