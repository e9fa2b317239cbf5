"""Renders one picture from one person and one shot."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from fra_dist.synthetic import face, hair, head, light, occluder, props
from fra_dist.synthetic.draws import Draws
from fra_dist.synthetic.ears import add_ears
from fra_dist.synthetic.eyes import paint_eyes
from fra_dist.synthetic.feature_curves import Layout, lay_out
from fra_dist.synthetic.landmarks import landmarks
from fra_dist.synthetic.person import Person
from fra_dist.synthetic.planes import blend, ramp, sample, soften
from fra_dist.synthetic.rays import Rays, cast_rays
from fra_dist.synthetic.shot import Shot
from fra_dist.synthetic.surroundings import Canvas, backdrop, paint_body

_ALL = (slice(None), slice(None))


@dataclass(frozen=True, slots=True)
class Sitter:
    """A person before the camera: everything of a picture that does not depend on its size."""

    person: Person
    """Who is in the picture."""
    shot: Shot
    """How the picture is taken."""
    lay: Layout
    """Where the features lie on the face in this expression."""
    turn: np.ndarray
    """Rotation (3, 3) from the head frame to the image frame."""
    bare: np.ndarray
    """Surface of the head without ears and hair, R (ROWS, 2·HALF), as in `head`."""


def seat(person: Person, shot: Shot) -> Sitter:
    """Prepare a picture of a person: the part that does not depend on the picture's size."""
    lay = lay_out(person, shot.action)
    return Sitter(person, shot, lay, head.rotation(shot), head.bare_head(person, shot, lay))


def find_points(sitters: list[Sitter]) -> np.ndarray:
    """Landmarks (n, 68, 2) of n sitters, in head units around each head's centre."""
    frontal = np.stack([s.lay.points() for s in sitters])
    turns = np.stack([s.turn for s in sitters]).astype(np.float32)
    return landmarks(np.stack([s.bare for s in sitters]), turns, frontal)


def come_close(sitter: Sitter, points: np.ndarray, numbers: Sequence[float]) -> Sitter:
    """The sitter in a square around the face, as loose and as far off the middle as a face detector's boxes are.

    The side is 1.15 to 1.65 times the longer side of the box around the landmarks (68, 2) from `find_points`.
    numbers: at least 7 uniform ones in [0, 1).
    """
    low, high = points.min(axis=0).astype(float), points.max(axis=0).astype(float)
    d = Draws(numbers)
    scale = 1.0 / (d.between(1.15, 1.65) * float((high - low).max()))
    x, y = ((low + high) / 2).tolist()
    centre = (0.5 - scale * x + d.near(0.0, 0.03), 0.5 - scale * y + d.near(0.05, 0.03))
    return replace(sitter, shot=replace(sitter.shot, scale=scale, centre=centre))


def paint(sitter: Sitter, points: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Paint one picture of `size` pixels: (image (S, S, 3) uint8, regions (S, S) uint8, landmarks (68, 2) float32).

    points: the sitter's landmarks (68, 2) from `find_points`. The landmarks returned are in pixels, x then y.
    """
    p, shot, lay = sitter.person, sitter.shot, sitter.lay
    pic = _easel(shot, sitter.turn, size)
    paint_body(pic, p, shot)
    _paint_head(pic, p, shot, lay, sitter.bare, points)
    props.paint_glasses(pic, shot, p, lay)
    if shot.hat == "cap":
        props.paint_brim(pic, shot)
    occluder.paint_occluder(pic, p, shot)
    places = points * np.float32(shot.scale * size) + np.array(shot.centre, np.float32) * np.float32(size)
    return _develop(pic, shot), pic.region, places.astype(np.float32)


def _easel(shot: Shot, turn: np.ndarray, size: int) -> Canvas:
    unit = 1.0 / (shot.scale * size)
    place = np.arange(size, dtype=np.float32) + np.float32(0.5)
    qx = (place - np.float32(shot.centre[0] * size)) * np.float32(unit)
    qy = (place - np.float32(shot.centre[1] * size)) * np.float32(unit)
    grid_x, grid_y = np.meshgrid(qx, qy)
    region = np.zeros((size, size), np.uint8)
    return Canvas(backdrop(shot, size), region, grid_x, grid_y, unit, size, turn)


def _paint_head(pic: Canvas, p: Person, shot: Shot, lay: Layout, bare: np.ndarray, points: np.ndarray) -> None:
    field, grown = hair.grow(p, bare)
    if hair.wears_hat(shot):
        hat_field, grown = props.raise_hat(shot, np.minimum(grown, bare + 0.09), head.whole_directions())
    reach = float(grown.max())
    half = math.hypot(0.80 * math.cos(shot.yaw), 1.0 * math.sin(shot.yaw)) + reach - float(bare.max()) + 0.16
    box = pic.box(-half, -reach, half, 1.12 * p.chin + lay.drop + 0.05)
    rays = Rays.through(pic.turn, pic.qx[box], pic.qy[box])
    hits = cast_rays(grown, rays, pic.turn, pic.pixel)
    folds = [] if p.style in hair.LONG else add_ears(hits, rays, pic.turn, p, pic.pixel)
    shape = hits.x.shape
    sheet = face.Sheet(
        hits,
        pic.pixel,
        np.empty((3, *shape), np.float32),
        np.full(shape, 0.16, np.float32),
        np.full(shape, face.SKIN, np.uint8),
        (points - np.array([pic.qx[box][0, 0], pic.qy[box][0, 0]])) / pic.pixel + 0.5,
    )
    face.paint_skin(sheet, p, shot, lay)
    for where, _, fold in folds:
        sheet.albedo[:, where[0], where[1]] *= 1.0 - fold
    face.paint_beard(sheet, p, lay)
    face.paint_nose(sheet, p, lay)
    face.paint_mouth(sheet, p, shot, lay)
    glint = paint_eyes(sheet, p, shot, lay)
    face.paint_brows(sheet, p, lay)
    if shot.occlusion == "face_mask":
        occluder.paint_face_mask(sheet, shot, lay)
    lines = hair.strands(p, hits)
    distance = hits.taps.read(field)
    cover = hair.coverage(p, distance, lines, pic.pixel)
    for where, ear, _ in folds:
        cover[where] *= 1.0 - ear
        distance[where] -= ear
    if p.style not in ("bald", "buzz"):
        sheet.albedo *= 1.0 - 0.5 * ramp(distance, -0.10, 0.0)
    _lay_hair(sheet, p, cover, lines)
    if hair.wears_hat(shot):
        cover = np.maximum(cover, props.paint_hat(sheet, shot, hat_field))
    colour = _light_head(sheet, shot, cover)
    if glint is not None:
        where, bright = glint
        blend(colour, where, np.minimum(bright * (1.0 - cover[where]) * (0.5 + 0.4 * shot.key), 1.0), (1.0, 1.0, 1.0))
    blend(pic.colour, box, hits.alpha, colour)
    region = pic.region[box]
    np.copyto(region, sheet.region, where=hits.alpha > 0.5)


def _lay_hair(sheet: face.Sheet, p: Person, cover: np.ndarray, lines: np.ndarray) -> None:
    tone = np.maximum(1.0 + 0.42 * lines, 0.15)
    blend(sheet.albedo, _ALL, cover, face.linear(p.hair)[:, None, None] * tone + 0.004)
    sheet.region[cover > 0.5] = face.HAIR
    shine = 0.12 if p.style in ("curly", "buzz", "bald") else 0.28
    sheet.glossy += cover * (shine * np.maximum(0.5 + 0.6 * lines, 0.0) - sheet.glossy)


def _light_head(sheet: face.Sheet, shot: Shot, cover: np.ndarray) -> np.ndarray:
    normal = sheet.hits.normal
    shadow = light.cast_shadow(sheet.hits.depth, shot, sheet.pixel) * 0.75
    arriving = light.shade(shot, normal, shadow, (0.38, 0.24, 0.20))
    arriving *= 1.0 - 0.30 * ramp(normal[2], 0.35, 0.0)
    arriving *= sheet.albedo
    arriving += sheet.glossy * light.gloss(shot, normal, shadow)
    return arriving


def _develop(pic: Canvas, shot: Shot) -> np.ndarray:
    """Exposure, tone curve, blur and grain; (S, S, 3) uint8."""
    colour = pic.colour
    colour *= shot.exposure * 1.05
    np.maximum(colour, 0.0, out=colour)
    colour /= 0.85 + 0.20 * colour
    np.sqrt(colour, out=colour)
    # c − k·c (1 − c)(1 − 2c), an S around the middle, in Horner's form.
    k = 0.12 + 0.25 * shot.contrast
    curve = colour * (-2.0 * k)
    curve += 3.0 * k
    curve *= colour
    curve += 1.0 - k
    colour *= curve
    colour = soften(colour, (shot.blur * pic.size) ** 2 + 0.12)
    if shot.grey:
        colour[:] = 0.30 * colour[0] + 0.59 * colour[1] + 0.11 * colour[2]
    if shot.grain > 0.003:
        colour += shot.grain * _speckle(pic, shot)
    colour *= 255.0
    colour += 0.5
    np.clip(colour, 0.0, 255.0, out=colour)
    image = np.empty((pic.size, pic.size, 3), np.uint8)
    np.copyto(image.transpose(2, 0, 1), colour, casting="unsafe")
    return image


def _speckle(pic: Canvas, shot: Shot) -> np.ndarray:
    step = 160.0 / pic.size
    index = (np.arange(pic.size, dtype=np.float32) + 0.5) * np.float32(step)
    return sample("grain", index[None, :] + shot.noise, index[:, None] + np.float32(2 * shot.noise))
