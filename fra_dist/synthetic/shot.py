"""How a picture was taken: everything that follows from the picture's own seed."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from fra_dist.synthetic.draws import Draws

EXPRESSIONS = ("neutral", "happiness", "surprise", "sadness", "anger", "disgust", "fear")
"""Names of the expressions, by index."""
OCCLUSIONS = ("none", "hand", "scarf", "face_mask", "bar", "cup")
"""Kinds of things that hide part of a face."""
GLASSES = ("none", "round", "square", "sun")
"""Kinds of glasses."""
HATS = ("none", "beanie", "cap")
"""Kinds of hats."""


@dataclass(frozen=True, slots=True)
class Action:
    """Facial actions from 0 to 1, named after what they do (after the action units of Ekman and Friesen's FACS)."""

    brow_inner: float = 0.0
    """Raises the inner ends of the brows."""
    brow_outer: float = 0.0
    """Raises the outer ends of the brows."""
    brow_lower: float = 0.0
    """Lowers the brows and draws them together."""
    lid_up: float = 0.0
    """Raises the upper lids."""
    droop: float = 0.0
    """Lets the upper lids droop."""
    squint: float = 0.0
    """Tightens the lids."""
    cheek: float = 0.0
    """Raises the cheeks, which lifts the lower lids."""
    nose_wrinkle: float = 0.0
    """Wrinkles the nose."""
    lip_raise: float = 0.0
    """Raises the upper lip."""
    corner_up: float = 0.0
    """Pulls the corners of the mouth up, as in a smile."""
    corner_down: float = 0.0
    """Pulls the corners of the mouth down."""
    chin_up: float = 0.0
    """Pushes the chin and the lower lip up."""
    stretch: float = 0.0
    """Stretches the mouth sideways."""
    press: float = 0.0
    """Presses the lips together."""
    pucker: float = 0.0
    """Draws the corners of the mouth together."""
    part: float = 0.0
    """Parts the lips."""
    jaw: float = 0.0
    """Drops the jaw."""


@dataclass(frozen=True, slots=True)
class Shot:
    """How one picture is taken: pose, expression, light, camera, and what surrounds or hides the face.

    Angles are in radians, places in shares of the image's side.
    """

    yaw: float
    """Turn of the head; positive turns the nose to the image's right."""
    pitch: float
    """Nod of the head; positive lifts the nose."""
    roll: float
    """Tilt of the head; positive turns it clockwise in the image."""
    centre: tuple[float, float]
    """(x, y) of the head's origin in the image."""
    scale: float
    """Length of a head unit as a share of the image's side."""
    expression: int
    """Expression of the face, an index of EXPRESSIONS."""
    strength: float
    """Strength of the expression, 0.25 to 1."""
    action: Action
    """Facial actions that make the expression."""
    gaze: tuple[float, float]
    """(x, y) by which the irises are moved, in head units."""
    light: tuple[float, float, float]
    """Unit vector (x right, y down, z to the viewer) towards the key light."""
    key: float
    """Strength of the key light."""
    ambient: float
    """Strength of the fill light."""
    key_colour: tuple[float, float, float]
    """Linear RGB factors of the key light."""
    fill_colour: tuple[float, float, float]
    """Linear RGB factors of the fill light."""
    exposure: float
    """Factor of the picture's exposure."""
    contrast: float
    """Strength of the tone curve's contrast, 0 to 0.5."""
    blur: float
    """Standard deviation of the camera's blur, as a share of the image's side."""
    grain: float
    """Standard deviation of the grain, in levels of 0 to 1."""
    grey: bool
    """Whether the picture is grey."""
    glasses: str
    """Kind of glasses that are worn, one of GLASSES."""
    hat: str
    """Kind of hat that is worn, one of HATS."""
    occlusion: str
    """Kind of thing that hides part of the face, one of OCCLUSIONS."""
    prop: tuple[float, float, float, float]
    """Four numbers in [0, 1) that vary the shape, place and colour of hats, glasses and what hides the face."""
    cloth: tuple[float, float, float]
    """Hue, saturation and value of the clothes, each in [0, 1)."""
    cloth_kind: int
    """Kind of the clothes, 0 to 3: neckline and pattern."""
    backdrop: tuple[float, ...]
    """72 numbers in [0, 1) that the background is made from."""
    noise: float
    """Where the picture's textures begin in the noise tiles, in texels."""
    furrow: float = 1.0
    """Depth of the folds that age and expression draw, 1 as a rule."""


def act(expression: int, strength: float, variant: tuple[float, float]) -> Action:
    """The actions of an expression (index of EXPRESSIONS) at a strength in [0, 1]; variants in [0, 1) vary its form."""
    s, (v, w) = strength, variant
    grin = s * max(0.0, 1.6 * v - 0.45)
    match EXPRESSIONS[expression]:
        case "happiness":
            return Action(
                corner_up=s, cheek=0.9 * s, part=grin, jaw=0.22 * grin, squint=0.15 * s, lip_raise=0.25 * grin
            )
        case "surprise":
            gape = s * (0.55 + 0.45 * v)
            return Action(brow_inner=s, brow_outer=s, lid_up=0.9 * s, jaw=gape, part=0.5 * gape, pucker=0.7 * gape)
        case "sadness":
            return Action(
                brow_inner=s, brow_lower=0.25 * s, droop=0.55 * s, corner_down=s, chin_up=0.7 * s, press=0.2 * s
            )
        case "anger":
            bared = s * (0.8 if v > 0.65 else 0.0)
            closed = 0.8 * s if v <= 0.65 else 0.0
            return Action(
                brow_lower=s,
                squint=0.55 * s,
                lid_up=0.35 * s,
                press=closed,
                part=bared,
                stretch=0.5 * bared,
                nose_wrinkle=0.35 * s,
                corner_down=0.35 * s,
                jaw=0.2 * bared * w,
            )
        case "disgust":
            return Action(
                nose_wrinkle=s,
                lip_raise=s,
                brow_lower=0.6 * s,
                squint=0.75 * s,
                corner_down=0.45 * s,
                cheek=0.5 * s,
                part=0.35 * s * v,
                chin_up=0.3 * s,
            )
        case "fear":
            return Action(
                brow_inner=s,
                brow_outer=0.55 * s,
                brow_lower=0.35 * s,
                lid_up=s,
                stretch=s,
                part=0.5 * s,
                jaw=0.35 * s * (0.5 + v),
                corner_down=0.3 * s,
            )
        case _:
            idle = 0.25 * s
            return Action(
                corner_up=idle * (v - 0.4), droop=0.3 * idle, brow_outer=idle * w, part=max(0.0, idle * (w - 0.6))
            )


def _light(d: Draws) -> tuple[float, float, float]:
    side = d.near(0.0, 0.62)
    height = d.near(-0.55, 0.4)
    front = d.between(0.35, 1.0)
    length = math.sqrt(side * side + height * height + front * front)
    return side / length, height / length, front / length


def _tint(d: Draws, spread: float) -> tuple[float, float, float]:
    warm, green = d.near(0.0, spread), d.near(0.0, spread / 4)
    return 1.0 + warm, 1.0 + green, 1.0 - warm


def draw_shot(row: np.ndarray) -> Shot:
    """The shot that one row of 192 uniform numbers in [0, 1) stands for."""
    d = Draws(row.tolist())
    wide = d.chance(0.3)
    yaw = d.near(0.0, 34.0 if wide else 14.0)
    pitch, roll = d.near(-1.0, 8.0), d.near(0.0, 7.0)
    expression = d.pick((0.22, 0.2, 0.12, 0.12, 0.12, 0.11, 0.11))
    strength = d.between(0.25, 1.0)
    action = act(expression, strength, (d.unit(), d.unit()))
    scale = d.between(0.30, 0.39)
    ambient = d.between(0.22, 0.6)
    glance = 0.014 if d.chance(0.7) else 0.035
    return Shot(
        yaw=math.radians(yaw),
        pitch=math.radians(pitch),
        roll=math.radians(roll),
        centre=(d.near(0.5, 0.018), d.near(0.485, 0.018)),
        scale=scale,
        expression=expression,
        strength=strength,
        action=action,
        gaze=(d.near(0, glance), d.near(0.0, 0.012)),
        light=_light(d),
        key=d.between(0.75, 1.15) * (1.25 - 0.6 * ambient),
        ambient=ambient,
        key_colour=_tint(d, 0.07),
        fill_colour=_tint(d, 0.10),
        exposure=2.0 ** d.near(0.0, 0.22),
        contrast=d.between(0.0, 0.5),
        blur=max(0.0, d.between(-1.0, 1.0)) ** 2 * 0.010,
        grain=d.unit() ** 2 * 0.025,
        grey=d.chance(0.04),
        glasses=GLASSES[d.pick((0.78, 0.08, 0.10, 0.04))],
        hat=HATS[d.pick((0.90, 0.05, 0.05))],
        occlusion=OCCLUSIONS[d.pick((0.83, 0.05, 0.035, 0.035, 0.025, 0.025))],
        prop=(d.unit(), d.unit(), d.unit(), d.unit()),
        cloth=(d.unit(), d.unit() ** 1.5, d.unit()),
        cloth_kind=d.pick((3, 2, 2, 2)),
        backdrop=tuple(row[-72:].tolist()),
        noise=d.between(0, 256),
    )


def roughen(shot: Shot, numbers: Sequence[float]) -> Shot:
    """The shot as cameras of all times take faces: often grey, soft, grainy or in hard light, turned as far as profile,
    with strong expressions.

    numbers: at least 24 uniform ones in [0, 1).
    """
    d = Draws(numbers)
    turned, far, left = d.chance(0.4), d.between(25.0, 85.0), d.chance(0.5)
    strength = d.between(0.5, 1.0)
    action = act(shot.expression, strength, (d.unit(), d.unit()))
    soft, softness = d.chance(0.4), d.between(0.006, 0.018)
    grainy, grain = d.chance(0.4), d.between(0.006, 0.035)
    hard, ambient = d.chance(0.3), d.between(0.08, 0.22)
    return replace(
        shot,
        yaw=math.radians(-far if left else far) if turned else shot.yaw,
        strength=strength,
        action=action,
        ambient=ambient if hard else shot.ambient,
        key=d.between(0.9, 1.25) if hard else shot.key,
        exposure=2.0 ** d.near(0.0, 0.25),
        contrast=d.between(0.0, 0.8),
        blur=max(shot.blur, softness) if soft else shot.blur,
        grain=grain if grainy else shot.grain,
        grey=d.chance(0.5),
        furrow=d.between(1.0, 2.2),
    )
