"""The person in a picture: everything that follows from the identity seed."""

from dataclasses import dataclass

import numpy as np

from fra_dist.synthetic.draws import Draws

Colour = tuple[float, float, float]  # sRGB, 0 to 1
"""An sRGB colour, each channel from 0 to 1."""

SKIN = np.array([(0.95, 0.80, 0.72), (0.89, 0.70, 0.58), (0.78, 0.57, 0.43), (0.58, 0.39, 0.28), (0.36, 0.24, 0.18)])
"""Skin colours from light to dark, sRGB (5, 3)."""
HAIR = np.array(
    [
        (0.06, 0.055, 0.055),
        (0.15, 0.10, 0.075),
        (0.30, 0.19, 0.12),
        (0.45, 0.22, 0.11),
        (0.68, 0.52, 0.32),
        (0.84, 0.73, 0.52),
        (0.46, 0.45, 0.44),
        (0.66, 0.65, 0.63),
    ]
)
"""Hair colours (8, 3), sRGB, in the order of BLACK to WHITE."""
BLACK, DARK_BROWN, BROWN, RED, BLOND, PALE_BLOND, GREY, WHITE = range(8)
IRIS = np.array(
    [
        (0.13, 0.075, 0.045),
        (0.30, 0.17, 0.08),
        (0.40, 0.32, 0.16),
        (0.33, 0.42, 0.27),
        (0.32, 0.48, 0.64),
        (0.46, 0.52, 0.56),
    ]
)
"""Colours of the iris (6, 3), sRGB."""

STYLES = ("bald", "buzz", "short", "side_part", "fringe", "bob", "long", "wavy", "curly", "bun")
"""Hair styles."""
BEARDS = ("none", "stubble", "moustache", "goatee", "full")
"""Kinds of beard."""


@dataclass(frozen=True, slots=True)
class Person:
    """A person's looks. Lengths are in head units (the eyes' line is 0, the chin about 1); factors are about 1."""

    masculine: float
    """How masculine the features are, 0 to 1; more than 0.5 counts as male."""
    age: float
    """Age on a scale from 0 (about 18 years) to 1 (about 80)."""
    skin: Colour
    """Colour of the skin."""
    darkness: float
    """Darkness of the skin, 0 to 1; 0 is the lightest."""
    hair: Colour
    """Colour of the hair."""
    hair_kind: int
    """Kind of the hair's colour, BLACK to WHITE."""
    iris: Colour
    """Colour of the iris."""
    style: str
    """Hair style, one of STYLES."""
    beard: str
    """Kind of beard, one of BEARDS."""
    parting: float
    """Side and slant of the parting and the strands; negative is the image's left."""
    hairline: float
    """y of the hairline over the forehead, in head units; negative is above the eyes."""
    receding: float
    """How far the hairline recedes, 0 to 1."""
    hair_volume: float
    """Factor of the thickness of the hair."""
    hair_length: float
    """Length of hair that hangs, 0 to 1."""
    width: float
    """Factor of the width of the head."""
    jaw: float
    """Factor of the width of the jaw."""
    chin: float
    """y of the chin, in head units."""
    cheek: float
    """Fullness of the cheeks, -1 (hollow) to 1."""
    eye_distance: float
    """Distance of each eye's centre from the middle of the face, in head units."""
    eye_width: float
    """Half the width of an eye, in head units."""
    eye_height: float
    """Factor of the opening of the eyes."""
    eye_tilt: float
    """Tilt of the eyes; positive raises the outer corners."""
    crease: float
    """Strength of the crease above the eye, 0 to 1."""
    brow_height: float
    """Height of the brows above the line of the eyes, in head units."""
    brow_weight: float
    """Factor of the thickness of the brows."""
    brow_arch: float
    """Factor of the height of the brows' arch."""
    nose_length: float
    """y of the base of the nose, in head units."""
    nose_width: float
    """Half the width of the nose, in head units."""
    nose_height: float
    """How far the nose stands out, in head units."""
    mouth_width: float
    """Half the width of the mouth, in head units."""
    mouth_height: float
    """y of the line between the lips, in head units."""
    upper_lip: float
    """Thickness of the upper lip, in head units."""
    lower_lip: float
    """Thickness of the lower lip, in head units."""
    ears: float
    """Factor of the size of the ears."""
    freckles: float
    """Strength of freckles, 0 to 1."""
    makeup: float
    """Strength of make-up, 0 to 1."""
    noise: float
    """Where the person's textures begin in the noise tiles, in texels."""


def _blend(table: np.ndarray, place: float) -> np.ndarray:
    low = min(int(place), len(table) - 2)
    return table[low] + (place - low) * (table[low + 1] - table[low])


def _hair_kind(d: Draws, darkness: float, age: float) -> int:
    natural = d.pick((0.75, 0.25) if darkness > 0.55 else (0.18, 0.24, 0.24, 0.08, 0.16, 0.10))
    grey = d.chance(max(0.0, (age - 0.45) * 1.7))
    white = d.chance(0.5 * age)
    return (WHITE if white else GREY) if grey else natural


def _style(d: Draws, masculine: float, age: float) -> str:
    men = (0.10 + 0.15 * age, 0.16, 0.36, 0.20, 0.06, 0.0, 0.03, 0.02, 0.09, 0.01)
    women = (0.005, 0.02, 0.08, 0.08, 0.13, 0.18, 0.22, 0.16, 0.08, 0.12)
    return STYLES[d.pick(men if masculine > 0.5 else women)]


def draw_person(row: np.ndarray) -> Person:
    """The person that one row of uniform numbers in [0, 1) (at least 96) stands for."""
    d = Draws(row.tolist())
    masculine = 0.5 + (0.5 if d.chance(0.5) else -0.5) * (0.35 + 0.65 * d.unit())
    age = d.unit() ** 1.4
    darkness = d.unit() ** 1.15
    skin = _blend(SKIN, 4.0 * darkness) * (1.0 + np.array([d.near(0, 0.015), d.near(0, 0.015), d.near(0, 0.03)]))
    kind = _hair_kind(d, darkness, age)
    hair = HAIR[kind] * d.between(0.85, 1.2)
    iris = IRIS[d.pick((0.7, 0.3) if darkness > 0.55 or kind == BLACK else (0.12, 0.25, 0.18, 0.13, 0.22, 0.1))]
    style = _style(d, masculine, age)
    bearded = masculine > 0.5
    # A number is drawn even where no beard grows: leaving it out would change every such face.
    beard = BEARDS[d.pick((0.42, 0.22, 0.08, 0.10, 0.18))] if bearded else (d.unit(), "none")[1]
    receding = max(0.0, d.near(0.9 * age - 0.15, 0.25)) if bearded else 0.0
    return Person(
        masculine=masculine,
        age=age,
        skin=tuple(skin.clip(0.05, 0.97)),
        darkness=darkness,
        hair=tuple(hair.clip(0, 0.9)),
        hair_kind=kind,
        iris=tuple(iris * d.between(0.85, 1.15)),
        style=style,
        beard=beard,
        parting=d.between(-0.45, 0.45),
        hairline=d.near(-0.60, 0.04),
        receding=min(receding, 1.0),
        hair_volume=d.between(0.75, 1.3),
        hair_length=d.between(0.0, 1.0),
        width=d.near(1.0, 0.045),
        jaw=d.near(0.98 + 0.06 * (masculine - 0.5), 0.05),
        chin=d.near(0.99 + 0.05 * masculine, 0.035),
        cheek=d.between(-1.0, 1.0),
        eye_distance=d.near(0.305, 0.013),
        eye_width=d.near(0.150 - 0.008 * masculine, 0.008),
        eye_height=d.near(1.06 - 0.12 * masculine, 0.13),
        eye_tilt=d.near(0.03, 0.05),
        crease=d.unit(),
        brow_height=d.near(0.205 - 0.035 * masculine, 0.018),
        brow_weight=d.near(0.75 + 0.4 * masculine, 0.15),
        brow_arch=d.near(1.15 - 0.6 * masculine, 0.3),
        nose_length=d.near(0.44 + 0.02 * masculine, 0.03),
        nose_width=d.near(0.125 + 0.025 * masculine + 0.035 * darkness, 0.012),
        nose_height=d.near(0.20 + 0.02 * masculine - 0.03 * darkness, 0.022),
        mouth_width=d.near(0.245 + 0.01 * masculine, 0.017),
        mouth_height=d.near(0.655, 0.016),
        upper_lip=max(0.025, d.near(0.05 - 0.014 * masculine + 0.02 * darkness - 0.012 * age, 0.01)),
        lower_lip=max(0.035, d.near(0.075 - 0.014 * masculine + 0.02 * darkness - 0.012 * age, 0.011)),
        ears=d.near(1.0, 0.2),
        freckles=max(0.0, d.between(-2.0, 1.0)) * (1.0 - darkness),
        makeup=max(0.0, d.between(-0.6, 1.0)) if masculine < 0.5 else 0.0,
        noise=d.between(0, 256),
    )
