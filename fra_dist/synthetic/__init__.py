"""Synthetic faces with ground truth: `render(seeds, size)`.

Every picture depends on its seed, on `identities` and on the size alone, whichever batch it is drawn in: to the bit on
one machine, and up to rounding of sines on another. The same seed at another size is the same face. A picture of 112 px
takes a few milliseconds of one core.

The head is a star-shaped surface met by parallel rays, so that turning it moves, shortens and hides features as it
should; colour, light and cast shadows follow the surface. An identity decides shape, skin, hair, eyes, age and beard;
the picture's own seed decides pose, expression, light, background, clothes, glasses, hat and what hides the face.

Ground truth that comes with a picture:

- `masks`: the region of every pixel, an index of `REGION_NAMES`. What hides a face (hand, scarf, face mask, bar,
  cup, hat, dark glasses) and clothes are background; skin includes ears, neck and beard; eyes include the lids'
  edges; clear glasses hide nothing.
- `landmarks`: the 68 points of the iBUG scheme in pixels (x right, y down, the middle of the first pixel at 0.5):
  jaw 0-16, brows 17-26, nose 27-35, eyes 36-47, mouth 48-67, each from the image's left; 36 is the outer corner
  of the eye on the image's left. They lie on the face whether it is hidden or not, except that the jaw follows
  the outline.
- `pose`: yaw, pitch and roll in degrees: yaw > 0 turns the nose to the image's right, pitch > 0 lifts it,
  roll > 0 turns the head clockwise in the image.
- `expression` (index of EXPRESSIONS) with its `strength` from 0.25 to 1, `attributes` (ATTRIBUTES), `age` in
  years, `identity`.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np

from fra_dist.errors import DataError
from fra_dist.synthetic.draws import hashed, uniforms
from fra_dist.synthetic.hair import LONG
from fra_dist.synthetic.person import BLACK, BLOND, DARK_BROWN, GREY, PALE_BLOND, WHITE, Person, draw_person
from fra_dist.synthetic.render import come_close, find_points, paint, seat
from fra_dist.synthetic.shot import EXPRESSIONS, Shot, draw_shot, roughen

__all__ = ["ATTRIBUTES", "EXPRESSIONS", "REGION_NAMES", "Framing", "SyntheticFaces", "render"]

Framing = Literal["portrait", "face", "wild"]
"""What the pictures show: head and shoulders, a square around the face as detectors give it, or such a square as
cameras of all times take it: often grey, soft, grainy or in hard light, turned as far as profile, with strong
expressions."""

REGION_NAMES = ("background", "hair", "skin", "brows", "eyes", "nose", "mouth")
"""Names of the regions in `SyntheticFaces.masks`, by index."""
ATTRIBUTES = (
    "male",
    "old",
    "dark_skin",
    "dark_hair",
    "blond_hair",
    "grey_hair",
    "bald",
    "long_hair",
    "fringe",
    "curly_hair",
    "beard",
    "moustache",
    "heavy_makeup",
    "bushy_brows",
    "big_nose",
    "full_lips",
    "glasses",
    "dark_glasses",
    "hat",
    "face_hidden",
    "smiling",
    "mouth_open",
    "eyes_narrow",
    "turned_left",
    "turned_right",
)
"""Names of the columns of `SyntheticFaces.attributes`."""
MIN_SIZE, MAX_SIZE = 16, 1024
_CHUNK = 16  # faces prepared together
_SEED_STREAM, _PERSON_STREAM, _SHOT_STREAM, _FRAME_STREAM, _WILD_STREAM = range(5)


@dataclass(frozen=True, slots=True)
class SyntheticFaces:
    """N pictures of S x S pixels and their ground truth, in the order of the seeds."""

    images: np.ndarray
    """Pictures (N, S, S, 3), uint8 RGB."""
    masks: np.ndarray
    """Region of every pixel (N, S, S), uint8, an index of REGION_NAMES."""
    landmarks: np.ndarray
    """The 68 points of the iBUG scheme (N, 68, 2), float32, x and y in pixels."""
    expression: np.ndarray
    """Expression of each face (N,), int64, an index of EXPRESSIONS."""
    strength: np.ndarray
    """Strength of the expression (N,), float32, 0.25 to 1."""
    attributes: np.ndarray
    """Whether each face has each attribute (N, len(ATTRIBUTES)), bool."""
    pose: np.ndarray
    """Yaw, pitch and roll of each head (N, 3), float32, in degrees."""
    age: np.ndarray
    """Age of each person (N,), float32, in years."""
    identity: np.ndarray
    """Number of the person in each picture (N,), int64; equal numbers are the same person."""

    def __len__(self) -> int:
        return len(self.images)


def _attributes(p: Person, s: Shot) -> list[bool]:
    visible_hair = s.hat == "none"
    opening = s.action.jaw * 0.2 + s.action.part * 0.0715
    return [
        p.masculine > 0.5,
        p.age > 0.6,
        p.darkness > 0.6,
        p.hair_kind in (BLACK, DARK_BROWN),
        p.hair_kind in (BLOND, PALE_BLOND),
        p.hair_kind in (GREY, WHITE),
        p.style == "bald",
        p.style in LONG,
        p.style == "fringe" and visible_hair,
        p.style == "curly",
        p.beard in ("goatee", "full"),
        p.beard in ("moustache", "goatee", "full"),
        p.makeup > 0.5,
        p.brow_weight > 1.1,
        p.nose_width > 0.155,
        p.upper_lip + p.lower_lip > 0.135,
        s.glasses in ("round", "square"),
        s.glasses == "sun",
        not visible_hair,
        s.occlusion != "none",
        s.action.corner_up > 0.3,
        opening > 0.03,
        s.action.squint + s.action.droop + s.action.cheek > 0.4,
        s.yaw < -0.35,
        s.yaw > 0.35,
    ]


def cast_of(seeds: np.ndarray, identities: int | None) -> np.ndarray:
    """The identity (N,) of each seed (N,): the seed itself, or one of `identities` people chosen by its hash."""
    if identities is None:
        return seeds
    return (hashed(seeds, _SEED_STREAM) % np.uint64(identities)).astype(np.int64)


def render(
    seeds: np.ndarray, size: int = 112, identities: int | None = None, framing: Framing = "portrait"
) -> SyntheticFaces:
    """Draws one face per seed.

    Args:
        seeds: (N,) integers, taken as int64.
        size: side of the pictures in pixels, 16 to 1024.
        identities: how many people the pictures share; None gives every seed its own person.
        framing: the same people with head and shoulders (portrait), cut to the face, loosely and not quite in the
            middle (face), or so and in other poses, light and quality (wild).

    Raises:
        DataError: the seeds are not a row of integers, or size or identities is out of range.
    """
    seeds = np.asarray(seeds)
    if seeds.ndim != 1 or seeds.dtype.kind not in "iu":
        raise DataError(
            f"synthetic faces: seeds must be a 1-D array of integers, not {seeds.dtype} of shape {seeds.shape}"
        )
    if not MIN_SIZE <= size <= MAX_SIZE:
        raise DataError(f"synthetic faces: size {size} is out of range; choose {MIN_SIZE} to {MAX_SIZE} pixels")
    if identities is not None and identities < 1:
        raise DataError(f"synthetic faces: identities must be at least 1, not {identities}")
    seeds = seeds.astype(np.int64)
    who = cast_of(seeds, identities)
    people, shots = uniforms(who, _PERSON_STREAM, 128), uniforms(seeds, _SHOT_STREAM, 192)
    frames, wild = uniforms(seeds, _FRAME_STREAM, 8), uniforms(seeds, _WILD_STREAM, 32)
    count = len(seeds)
    images = np.empty((count, size, size, 3), np.uint8)
    masks = np.empty((count, size, size), np.uint8)
    points = np.empty((count, 68, 2), np.float32)
    expression, strength = np.empty(count, np.int64), np.empty(count, np.float32)
    attributes = np.empty((count, len(ATTRIBUTES)), bool)
    pose, age = np.empty((count, 3), np.float32), np.empty(count, np.float32)
    for n in range(count):
        if n % _CHUNK == 0:
            ahead = range(n, min(n + _CHUNK, count))
            taken = [draw_shot(shots[k]) for k in ahead]
            if framing == "wild":
                taken = [roughen(shot, wild[k].tolist()) for k, shot in zip(ahead, taken, strict=True)]
            sitters = [seat(draw_person(people[k]), shot) for k, shot in zip(ahead, taken, strict=True)]
            places = find_points(sitters)
            if framing != "portrait":
                sitters = [come_close(*at) for at in zip(sitters, places, frames[n : n + _CHUNK], strict=True)]
        images[n], masks[n], points[n] = paint(sitters[n % _CHUNK], places[n % _CHUNK], size)
        person, shot = sitters[n % _CHUNK].person, sitters[n % _CHUNK].shot
        expression[n], strength[n] = shot.expression, shot.strength
        attributes[n] = _attributes(person, shot)
        pose[n] = np.degrees((shot.yaw, shot.pitch, shot.roll))
        age[n] = 18.0 + 62.0 * person.age
    return SyntheticFaces(images, masks, points, expression, strength, attributes, pose, age, who)
