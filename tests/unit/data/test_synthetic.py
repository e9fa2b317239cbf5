"""Synthetic faces: the pictures are a function of the seed, and their truth fits them."""

import dataclasses
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fra_dist.errors import DataError
from fra_dist.synthetic import ATTRIBUTES, EXPRESSIONS, REGION_NAMES, SyntheticFaces, render
from fra_dist.synthetic.draws import uniforms
from fra_dist.synthetic.person import draw_person
from fra_dist.synthetic.rays import _secant
from fra_dist.synthetic.render import find_points, paint, seat
from fra_dist.synthetic.shot import Action, Shot, act, draw_shot

SIZE = 64


@pytest.fixture(scope="module")
def many() -> SyntheticFaces:
    return render(np.arange(300), SIZE, identities=40)


def shoot(person: int, size: int = 112, **changes: object) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """One frontal, sharp, unhidden face, with changes to its shot: (image, mask, landmarks)."""
    p = draw_person(uniforms(np.array([person]), 1, 128)[0])
    shot: Shot = draw_shot(uniforms(np.array([person + 1000]), 2, 192)[0])
    plain = {"yaw": 0.0, "pitch": 0.0, "roll": 0.0, "centre": (0.5, 0.5), "glasses": "none", "hat": "none"}
    plain |= {"occlusion": "none", "blur": 0.0, "grain": 0.0, "action": Action()}
    sitter = seat(p, dataclasses.replace(shot, **(plain | changes)))
    return paint(sitter, find_points([sitter])[0], size)


def assert_same(a: SyntheticFaces, b: SyntheticFaces, rows: slice | list[int]) -> None:
    for field in dataclasses.fields(SyntheticFaces):
        np.testing.assert_array_equal(getattr(a, field.name)[rows], getattr(b, field.name), err_msg=field.name)


def test_shapes_and_types(many: SyntheticFaces) -> None:
    assert len(many) == 300
    assert many.images.shape == (300, SIZE, SIZE, 3)
    assert many.images.dtype == np.uint8
    assert many.masks.shape == (300, SIZE, SIZE)
    assert many.masks.dtype == np.uint8
    assert many.landmarks.shape == (300, 68, 2)
    assert many.landmarks.dtype == np.float32
    assert many.attributes.shape == (300, len(ATTRIBUTES))
    assert many.attributes.dtype == bool
    assert many.pose.shape == (300, 3)
    assert many.expression.dtype == many.identity.dtype == np.int64


def test_a_face_does_not_depend_on_its_batch(many: SyntheticFaces) -> None:
    picks = [0, 15, 16, 17, 299]
    for pick in picks:
        assert_same(many, render(np.array([pick]), SIZE, identities=40), [pick])
    assert_same(many, render(np.array(picks[::-1]), SIZE, identities=40), picks[::-1])


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(-(2**63), 2**63 - 1), size=st.integers(16, 97))
def test_any_seed_and_size(seed: int, size: int) -> None:
    first, again = render(np.array([seed]), size), render(np.array([7, seed]), size)
    assert_same(again, first, [1])
    assert first.images.shape == (1, size, size, 3)
    assert first.identity[0] == seed
    assert first.masks.max() < len(REGION_NAMES)
    assert np.isfinite(first.landmarks).all()


def test_sizes_show_the_same_face() -> None:
    seeds = np.arange(20)
    small, large = render(seeds, 56), render(seeds, 112)
    np.testing.assert_allclose(small.landmarks * 2, large.landmarks, atol=0.02)
    np.testing.assert_array_equal(small.attributes, large.attributes)
    np.testing.assert_array_equal(small.pose, large.pose)
    halved = large.images.astype(float).reshape(20, 56, 2, 56, 2, 3).mean((2, 4))
    assert np.abs(halved - small.images).mean() < 5.0
    assert (large.masks[:, ::2, ::2] == small.masks).mean() > 0.95


def test_empty_batch() -> None:
    assert len(render(np.zeros(0, np.int64), 32)) == 0


@pytest.mark.parametrize(
    ("seeds", "size", "identities"),
    [(np.array([0.5]), 64, None), (np.array([[1]]), 64, None), (np.array([1]), 8, None), (np.array([1]), 64, 0)],
)
def test_bad_arguments_are_named(seeds: np.ndarray, size: int, identities: int | None) -> None:
    with pytest.raises(DataError, match="synthetic faces: "):
        render(seeds, size, identities)


def test_everything_occurs(many: SyntheticFaces) -> None:
    counts = np.bincount(many.expression, minlength=len(EXPRESSIONS))
    assert counts.min() > 12
    assert many.strength.min() >= 0.25
    assert many.strength.max() <= 1.0
    share = np.bincount(many.masks.ravel(), minlength=len(REGION_NAMES)) / many.masks.size
    assert share.sum() == pytest.approx(1.0)
    assert len(share) == len(REGION_NAMES)
    for name, least in (("background", 0.3), ("hair", 0.05), ("skin", 0.12), ("nose", 0.008), ("mouth", 0.004)):
        assert share[REGION_NAMES.index(name)] > least, name
    assert min(share[3], share[4]) > 0.004
    assert (many.attributes.mean(0) < 0.9).all()
    assert many.attributes.any(0).all()
    assert np.abs(many.pose[:, 0]).max() > 40
    assert np.abs(many.pose[:, 0].mean()) < 5
    assert many.age.min() >= 18
    assert many.age.max() <= 80


def test_the_head_fills_a_detector_crop(many: SyntheticFaces) -> None:
    front = np.abs(many.pose[:, 0]) < 25
    hats = many.attributes[:, ATTRIBUTES.index("hat")] | many.attributes[:, ATTRIBUTES.index("face_hidden")]
    crown = np.array([np.flatnonzero((mask > 0).any(1))[0] for mask in many.masks[front & ~hats]])
    heights = (many.landmarks[front & ~hats, 8, 1] - crown) / SIZE
    assert np.quantile(heights, 0.05) > 0.55
    assert np.quantile(heights, 0.95) < 0.9
    inside = (many.landmarks > 0) & (many.landmarks < SIZE)
    assert inside.mean() > 0.99


def test_identities_are_shared_and_keep_their_looks(many: SyntheticFaces) -> None:
    assert len(np.unique(many.identity)) == 40
    kept = ["male", "old", "dark_skin", "dark_hair", "blond_hair", "bald", "long_hair", "beard", "big_nose"]
    columns = [ATTRIBUTES.index(name) for name in kept]
    for who in np.unique(many.identity):
        rows = many.attributes[many.identity == who][:, columns]
        assert (rows == rows[0]).all()
        assert len(np.unique(many.age[many.identity == who])) == 1
    assert len(np.unique(many.pose[:, 0])) == 300
    assert len(np.unique(render(np.arange(20), 16).identity)) == 20


@pytest.mark.parametrize("person", range(6))
def test_landmarks_lie_on_their_regions(person: int) -> None:
    _, mask, points = shoot(person, action=act(1, 0.8, (0.6, 0.5)))
    regions = {"brows": [(17, 22), (22, 27)], "eyes": [(36, 42), (42, 48)], "nose": [(29, 31)], "mouth": [(48, 60)]}
    for name, ranges in regions.items():
        for first, last in ranges:
            x, y = points[first:last].mean(0)
            got = REGION_NAMES[mask[int(y), int(x)]]
            # A fringe may hide the brows.
            assert got == name or (name == "brows" and got == "hair"), f"{name}: {got}"
    for x, y in points[36:48]:
        assert mask[int(y) - 1 : int(y) + 2, int(x) - 1 : int(x) + 2].max() >= REGION_NAMES.index("eyes")


def test_order_of_the_points() -> None:
    _, _, points = shoot(3)
    x, y = points.T
    assert (np.diff(x[:17]) > 0).all()
    assert y[8] == y.max()
    assert (np.diff(x[17:27]) > 0).all()
    assert (np.diff(y[27:31]) > 0).all()
    assert (np.diff(x[31:36]) > 0).all()
    assert x[36] < x[37] < x[38] < x[39] < x[42] < x[43] < x[44] < x[45]
    assert y[37] < y[41]
    assert y[44] < y[46]
    assert x[48] < x[51] < x[54]
    assert y[51] < y[62] <= y[66] < y[57]
    assert x[60] < x[62] < x[64]
    # The face itself is symmetric, up to the pixel grid.
    np.testing.assert_allclose(x[36] - 56, 56 - x[45], atol=1e-3)
    np.testing.assert_allclose(x[:8] - 56, 56 - x[16:8:-1], atol=1e-3)


def test_pose_signs() -> None:
    straight = shoot(4)[2]
    nose = straight[30] - straight[27]
    right = shoot(4, yaw=math.radians(30))[2]
    assert (right[30] - right[27])[0] > nose[0] + 3
    assert right[8, 0] > straight[8, 0]
    up = shoot(4, pitch=math.radians(20))[2]
    assert up[30, 1] < straight[30, 1] - 5
    clockwise = shoot(4, roll=math.radians(20))[2]
    assert clockwise[45, 1] - clockwise[36, 1] > 8


def test_opposite_yaws_mirror_the_face() -> None:
    left, right = (shoot(5, yaw=math.radians(yaw)) for yaw in (-40, 40))
    swap = np.array([*range(16, -1, -1), *range(26, 16, -1), 27, 28, 29, 30, 35, 34, 33, 32, 31])
    mirrored = right[2][swap] * (-1, 1) + (112, 0)
    np.testing.assert_allclose(left[2][: len(swap)], mirrored, atol=1e-2)
    feature = np.isin(left[1], [3, 4, 5, 6])
    flipped = np.isin(right[1][:, ::-1], [3, 4, 5, 6])
    assert (feature & flipped).sum() / (feature | flipped).sum() > 0.85


def test_a_turned_head_hides_its_far_side() -> None:
    eyes = REGION_NAMES.index("eyes")
    whole, turned = shoot(6)[1] == eyes, shoot(6, yaw=math.radians(65))[1] == eyes
    halves = [int(side.sum()) for side in (turned[:, : np.flatnonzero(turned.any(0)).max() - 6], turned)]
    assert turned.sum() < 0.8 * whole.sum()
    assert halves[1] > 0


def test_expressions_move_the_right_points() -> None:
    def face(name: str) -> np.ndarray:
        return shoot(7, action=act(EXPRESSIONS.index(name), 1.0, (0.6, 0.5)))[2]

    calm = shoot(7)[2]
    happy, surprised, sad, angry, afraid = map(face, ("happiness", "surprise", "sadness", "anger", "fear"))
    width = calm[54, 0] - calm[48, 0]
    assert happy[54, 0] - happy[48, 0] > 1.15 * width
    assert happy[[48, 54], 1].mean() < calm[[48, 54], 1].mean() - 1
    assert surprised[66, 1] - surprised[62, 1] > 4
    assert surprised[8, 1] > calm[8, 1] + 2
    assert surprised[19, 1] < calm[19, 1] - 1
    assert surprised[41, 1] - surprised[37, 1] > calm[41, 1] - calm[37, 1]
    assert sad[[48, 54], 1].mean() > calm[[48, 54], 1].mean() + 1
    assert sad[21, 1] < calm[21, 1] - 1
    assert angry[21, 1] > calm[21, 1] + 1
    assert afraid[54, 0] - afraid[48, 0] > 1.05 * width


def test_strength_is_graded() -> None:
    gaps = [np.abs(shoot(8, action=act(1, s, (0.6, 0.5)))[2] - shoot(8)[2]).sum() for s in (0.25, 0.5, 1.0)]
    assert 0 < gaps[0] < gaps[1] < gaps[2]


@pytest.mark.parametrize("thing", ["hand", "scarf", "face_mask", "bar", "cup"])
def test_what_hides_the_face_is_background(thing: str) -> None:
    free, hidden = shoot(9), shoot(9, occlusion=thing)
    covered = (free[1] > 0) & (hidden[1] == 0)
    assert covered.sum() > 150
    assert np.abs(free[0][covered].astype(int) - hidden[0][covered]).mean() > 8
    np.testing.assert_array_equal(free[2], hidden[2])
    assert ((free[1] == hidden[1]) | (hidden[1] == 0)).all()


def test_dark_glasses_hide_the_eyes_and_clear_ones_do_not() -> None:
    eyes = REGION_NAMES.index("eyes")
    free = (shoot(10)[1] == eyes).sum()
    assert (shoot(10, glasses="round")[1] == eyes).sum() == free
    assert (shoot(10, glasses="sun")[1] == eyes).sum() < 0.2 * free


def test_light_comes_from_its_side() -> None:
    side = dict(key=1.0, ambient=0.25, exposure=1.0)
    left, right = (shoot(11, light=(x, -0.3, 0.5), **side) for x in (-0.8, 0.8))
    skin = left[1] == REGION_NAMES.index("skin")
    tone = left[0].astype(int).sum(-1) - right[0].astype(int).sum(-1)
    assert tone[:, :50][skin[:, :50]].mean() > 30
    assert tone[:, 62:][skin[:, 62:]].mean() < -30


def test_faces_without_shoulders_are_the_same_people_from_nearer() -> None:
    far, near = render(np.arange(40), 96, identities=9), render(np.arange(40), 96, identities=9, framing="face")
    for field in ("identity", "expression", "attributes", "pose", "age"):
        np.testing.assert_array_equal(getattr(far, field), getattr(near, field))
    low, high = near.landmarks.min(axis=1), near.landmarks.max(axis=1)
    longer = (high - low).max(axis=1) / 96
    assert (longer > 1 / 1.66).all()
    assert (longer < 1 / 1.14).all()
    assert longer.std() > 0.02
    middle = (low + high).mean(axis=0) / 192
    assert (abs(middle - (0.5, 0.55)) < 0.03).all()
    parts = [np.isin(faces.masks, [REGION_NAMES.index(n) for n in ("brows", "eyes", "nose", "mouth")]).mean()
             for faces in (far, near)]  # fmt: skip
    assert parts[1] > 2 * parts[0]
    assert_same(near, render(np.arange(17, 20), 96, identities=9, framing="face"), slice(17, 20))


def test_landmarks_lie_on_what_they_name_from_near_too() -> None:
    faces = render(np.arange(60), 96, framing="face")
    plain = ~faces.attributes[:, [ATTRIBUTES.index("face_hidden"), ATTRIBUTES.index("turned_left"),
                                  ATTRIBUTES.index("turned_right")]].any(axis=1)  # fmt: skip
    assert plain.sum() > 20
    tips = faces.landmarks[plain, 30].astype(int)
    found = faces.masks[plain][np.arange(plain.sum()), tips[:, 1], tips[:, 0]]
    assert (found == REGION_NAMES.index("nose")).mean() > 0.9


def test_wild_faces_are_the_same_people_taken_by_other_cameras() -> None:
    tame, wild = render(np.arange(200), 48, 30, framing="face"), render(np.arange(200), 48, 30, framing="wild")
    for field in ("identity", "expression", "age"):
        np.testing.assert_array_equal(getattr(tame, field), getattr(wild, field))
    yaw = abs(wild.pose[:, 0])
    assert 0.15 < (yaw > 45).mean() < 0.4
    assert yaw.max() < 86
    assert (wild.pose[:, 0] < -45).any()
    assert (wild.pose[:, 0] > 45).any()
    assert wild.strength.min() >= 0.5
    grey = (wild.images == wild.images[..., :1]).all(axis=(1, 2, 3))
    assert 0.4 < grey.mean() < 0.6
    assert (tame.images == tame.images[..., :1]).all(axis=(1, 2, 3)).mean() < 0.15
    assert_same(wild, render(np.arange(150, 153), 48, 30, framing="wild"), slice(150, 153))


def test_furrows_deepen_what_age_and_expression_draw() -> None:
    angry = act(EXPRESSIONS.index("anger"), 1.0, (0.0, 0.0))
    plain, deep = (shoot(7, action=angry, furrow=depth) for depth in (1.0, 2.2))
    np.testing.assert_array_equal(plain[1], deep[1])
    np.testing.assert_array_equal(plain[2], deep[2])
    skin = plain[1] == REGION_NAMES.index("skin")
    darker = plain[0].astype(int).sum(-1) - deep[0].astype(int).sum(-1)
    x, y = plain[2][[21, 22]].mean(axis=0).astype(int)
    assert darker[y - 4 : y + 5, x - 6 : x + 7][skin[y - 4 : y + 5, x - 6 : x + 7]].max() > 60
    assert darker[skin].min() >= -3


def test_a_ray_that_moves_by_what_is_added_against_zero() -> None:
    """A rate whose divisor is zero, as it was in one of 16,000 pictures, is kept within reason like any other."""
    move = np.full(3, -1e-6, np.float32)
    with np.errstate(all="raise"):
        found = _secant(np.array([1, 0, -1], np.float32), np.array([0.5, 0, -0.5], np.float32), move)
    np.testing.assert_array_equal(found, np.array([0.5 / 3, 0, -1], np.float32))
