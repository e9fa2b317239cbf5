import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fra_dist.eval.datasets.common.crop_rules import (
    IGNORE,
    CropRule,
    NoFace,
    Square,
    cut_mask,
    cut_photo,
    cut_points,
    square_of,
)
from fra_dist.eval.datasets.common.landmark_schemes import (
    POLYGON_CLASSES,
    SCHEMES,
    diagonal,
    draw_polygons,
    inter_ocular,
    mirror_order,
)
from fra_dist.eval.miniatures.faces import points_of
from fra_dist.synthetic import render


def test_rules_place_the_square():
    points = np.array([[10.0, 20.0], [30.0, 60.0]])
    assert square_of(CropRule("middle"), 50, 80) == Square(15, 0, 50)
    assert square_of(CropRule("points", scale=1.5), 100, 100, points) == Square(20 - 30, 40 - 30, 60)
    assert square_of(CropRule("box", scale=2, down=0.1), 100, 100, None, (10, 20, 30, 40)) == Square(0, 14, 40)
    assert square_of(CropRule("fixed", fixed=(50.0, 60.0, 20.0)), 100, 100) == Square(40, 50, 20)


@pytest.mark.parametrize(
    ("rule", "points", "box", "says"),
    [
        (CropRule("box"), None, None, "no box"),
        (CropRule("points"), None, None, "no landmarks"),
        (CropRule("box"), None, (5, 5, 6, 6), "1.0 by 1.0"),
        (CropRule("box"), None, (0, 0, float("nan"), 5), "nan"),
        (CropRule("box"), None, (500, 500, 600, 600), "outside"),
    ],
)
def test_what_shows_no_face(rule, points, box, says):
    with pytest.raises(NoFace, match=says):
        square_of(rule, 100, 100, points, box)


@settings(max_examples=25, deadline=None)
@given(st.floats(-30, 60), st.floats(-30, 60), st.floats(20, 90))
def test_photo_mask_and_points_agree(x, y, side):
    """A bright disc is where its mask and its centre say, wherever the square lies."""
    rows, columns = np.mgrid[:80, :100] + 0.5
    disc = (columns - 45) ** 2 + (rows - 35) ** 2 < 12**2
    square = Square(x, y, side)
    photo = cut_photo(np.repeat(disc[:, :, None], 3, 2).astype(np.uint8) * 255, square, 64)
    mask = cut_mask(disc.astype(np.uint8), square, disc.shape, 64)
    assert photo.shape == (64, 64, 3)
    seen = mask != IGNORE
    if not seen.any():  # the square lies outside the photo
        return
    assert ((photo[..., 0] > 127) == (mask == 1))[seen].mean() > 0.95
    centre = cut_points(np.array([[45.0, 35.0]]), square)[0]
    radius = 12 / side
    if (centre - radius > 0.05).all() and (centre + radius < 0.95).all():
        where = np.argwhere(mask == 1)[:, ::-1].mean(0) + 0.5
        assert where / 64 == pytest.approx(centre, abs=0.02)


def test_masks_of_another_size_show_the_same_field():
    mask = np.zeros((50, 50), np.uint8)
    mask[10:20, 30:40] = 3  # of a photo of 100 x 100: rows 20 to 40, columns 60 to 80
    cut = cut_mask(mask, Square(50, 0, 50), (100, 100), 50)
    assert (cut[20:40, 10:30] == 3).all()
    assert (cut == 3).sum() == 400


IBUG_MIRROR = [
    *range(16, -1, -1), *range(26, 16, -1), 27, 28, 29, 30, 35, 34, 33, 32, 31, 45, 44, 43, 42, 47, 46, 39, 38, 37, 36,
    41, 40, 54, 53, 52, 51, 50, 49, 48, 59, 58, 57, 56, 55, 64, 63, 62, 61, 60, 67, 66, 65,
]  # fmt: skip


def test_mirror_order_is_the_known_one():
    assert mirror_order(render(np.arange(40), 64).landmarks.astype(float)).tolist() == IBUG_MIRROR


@pytest.mark.parametrize("scheme", sorted(SCHEMES))
def test_mirror_orders_undo_themselves(scheme):
    order = mirror_order(points_of(render(np.arange(40), 64).landmarks, scheme))
    assert (order[order] == np.arange(len(order))).all()
    if SCHEMES[scheme].corners:
        left, right = SCHEMES[scheme].corners
        assert order[left] == right


def test_lengths_that_errors_are_counted_in():
    points = np.zeros((1, 68, 2))
    points[0, 36], points[0, 45] = (1, 2), (4, 6)
    assert inter_ocular(points, SCHEMES["ibug68"]) == pytest.approx([5.0])
    assert diagonal(points) == pytest.approx([np.hypot(4, 6)])


@pytest.mark.parametrize("scheme", ["ibug68", "wflw98", "lapa106", "inner49"])
def test_polygons_lie_on_the_true_parts(scheme):
    faces = render(np.arange(6), 128)
    names = ("background", "hair", "skin", "brows", "eyes", "nose", "mouth")
    points = points_of(faces.landmarks, scheme) / 128
    hits = {name: [] for name in ("eyes", "mouth")}
    for n in range(6):
        drawn = draw_polygons(points[n], SCHEMES[scheme], 128)
        assert set(np.unique(drawn)) <= {*range(len(POLYGON_CLASSES)), IGNORE}
        for name, shares in hits.items():
            there = drawn == POLYGON_CLASSES.index(name)
            shares.append((faces.masks[n][there] == names.index(name)).mean())
    assert all(np.median(shares) > 0.6 for shares in hits.values()), hits
