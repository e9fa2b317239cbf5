"""Files of boxes and points, and how faces are cut out by them."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from fra_dist.data.decoding.images import BadImage
from fra_dist.data.making.faces.annotations import Annotations, Face
from fra_dist.data.making.faces.face_crop import TEMPLATE, FaceCropRule, crop, similarity, turn
from fra_dist.errors import DataError
from tests.helpers.odd_photos import picture
from tests.helpers.rendered_faces import FACES, points

# files of boxes and points

FILES = {
    "loose_bb_train.csv": 'NAME_ID,X,Y,W,H\n"n000002/0001_01",161,140,224,324\n"n000002/0002_01",1,2,3,4\n',
    "list_bbox_celeba.txt": "2\nimage_id x_1 y_1 width height\n000001.jpg    95  71 226 313\n000002.jpg 1 2 3 4\n",
    "mine.csv": "path,x,y,w,h\na/b.png,10,20,30,40\nc.jpg,1,2,3,4\n",
    "loose_landmark_train.csv": "NAME_ID,P1X,P1Y,P2X,P2Y,P3X,P3Y,P4X,P4Y,P5X,P5Y\n"
    '"n000002/0001_01",1,2,3,4,5,6,7,8,9,10\n',
    "list_landmarks_celeba.txt": "1\nlefteye_x lefteye_y righteye_x righteye_y nose_x nose_y leftmouth_x leftmouth_y "
    "rightmouth_x rightmouth_y\n000001.jpg 1 2 3 4 5 6 7 8 9 10\n",
}


CORNER = tuple(n + 0.5 for n in range(1, 11))  # the files count middles of pixels from 0, a Face from the corner


@pytest.mark.parametrize(
    ("file", "name", "box", "five"),
    [
        ("loose_bb_train.csv", "train/n000002/0001_01.jpg", (161, 140, 224, 324), None),
        ("list_bbox_celeba.txt", "000001.jpg", (95, 71, 226, 313), None),
        ("mine.csv", "a/b.png", (10, 20, 30, 40), None),
        ("loose_landmark_train.csv", "n000002/0001_01.jpg", None, CORNER),
        ("list_landmarks_celeba.txt", "img/000001.jpg", None, CORNER),
    ],
)
def test_files_of_face_sets_are_read(
    tmp_path: Path, file: str, name: str, box: tuple[int, ...] | None, five: tuple[float, ...] | None
) -> None:
    (tmp_path / file).write_text(FILES[file])
    found = Annotations(tmp_path / file)
    assert found.find(name) == Face(box, five)  # type: ignore[arg-type]
    assert found.find("elsewhere/0009_09.jpg") is None


def test_boxes_and_points_of_two_files_meet(tmp_path: Path) -> None:
    for name in ("loose_bb_train.csv", "loose_landmark_train.csv"):
        (tmp_path / name).write_text(FILES[name])
    found = Annotations(tmp_path / "loose_bb_train.csv", tmp_path / "loose_landmark_train.csv").find(
        "n000002/0001_01.jpg"
    )
    assert found == Face((161, 140, 224, 324), CORNER)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "is empty"),
        ("a,b,c\n1,2,3\n", "needs a column name"),
        ("name,x,y,w,h\na.jpg,1,2,3\n", "row 2: 4 columns, not the 5"),
        ("name,x,y,w,h\na.jpg,1,2,3,wide\n", "row 2: a coordinate is not a number"),
        ("name,x,y,w,h\na.jpg,1,2,3,nan\n", "row 2: a coordinate is not a number"),
        ("name,x,y,w,h\na.jpg,1,2,3,4\nb.jpg,1,2,3,1e9\n", "row 3: a coordinate is not a number"),
        ("name,x,y,w,h\n", "names no face"),
    ],
)
def test_files_that_make_no_sense_are_refused(tmp_path: Path, text: str, reason: str) -> None:
    (tmp_path / "boxes.csv").write_text(text)
    with pytest.raises(DataError, match=reason):
        Annotations(tmp_path / "boxes.csv")
    with pytest.raises(DataError, match="cannot read"):
        Annotations(tmp_path / "absent.csv")


# crops


def test_a_box_becomes_a_square_with_a_margin() -> None:
    image = Image.fromarray(np.arange(100 * 80 * 3, dtype=np.uint32).reshape(100, 80, 3).astype(np.uint8))
    cut = crop(image, Face((30, 40, 10, 20)), FaceCropRule("box", 1.5))
    assert cut.size == (30, 30)
    assert np.array_equal(np.asarray(cut), np.asarray(image)[35:65, 20:50])
    assert crop(image, Face((30, 40, 10, 20)), FaceCropRule("box", 1.5, 16)).size == (16, 16)
    assert crop(image, Face((30, 40, 10, 20)), FaceCropRule("box", 1.5, 64)).size == (30, 30), "nothing is enlarged"


def test_at_the_border_the_crop_moves_and_then_repeats_the_edge() -> None:
    pixels = np.asarray(picture(60, 60))
    moved = np.asarray(crop(Image.fromarray(pixels), Face((0, 0, 20, 20)), FaceCropRule("box", 2.0)))
    assert np.array_equal(moved, pixels[:40, :40])
    large = np.asarray(crop(Image.fromarray(pixels), Face((10, 10, 40, 40)), FaceCropRule("box", 2.0)))
    assert large.shape == (80, 80, 3)
    assert np.array_equal(large[10:70, 10:70], pixels)
    assert np.array_equal(large[0, 10:70], pixels[0])


@pytest.mark.parametrize("box", [(100, 0, 10, 10), (0, 0, 0, 5), (-50, -50, 20, 20)])
def test_a_box_outside_the_photo_is_refused(box: tuple[float, float, float, float]) -> None:
    with pytest.raises(BadImage, match="outside the photo"):
        crop(picture(60, 60), Face(box), FaceCropRule("box"))


@given(st.floats(-3, 3), st.floats(0.2, 5), st.floats(-50, 50), st.floats(-50, 50))
def test_the_similarity_is_found_again(angle: float, scale: float, x: float, y: float) -> None:
    linear = scale * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    found = similarity(TEMPLATE, TEMPLATE @ linear.T + (x, y))
    assert np.allclose(found, np.column_stack([linear, [x, y]]), atol=1e-6)


@pytest.mark.parametrize("number", [0, 3, 7])
@pytest.mark.parametrize("angle", [0, 25, -40])
def test_alignment_brings_the_points_to_the_template(number: int, angle: float) -> None:
    """Dots painted on the five points are found where the template has them, whatever the photo's rotation."""
    image = Image.new("L", (200, 200))
    turned = np.radians(angle)
    linear = 90 * np.array([[np.cos(turned), -np.sin(turned)], [np.sin(turned), np.cos(turned)]])
    five = (TEMPLATE - 0.5) @ linear.T + 100 + number
    pixels = np.zeros((200, 200), np.float32)
    y, x = np.mgrid[:200, :200]
    for px, py in five:
        pixels += 255 * np.exp(-((x + 0.5 - px) ** 2 + (y + 0.5 - py) ** 2) / 18)
    image = Image.fromarray(pixels.clip(0, 255).astype(np.uint8))
    cut = np.asarray(crop(image, Face(None, tuple(five.ravel())), FaceCropRule("align", 1.0, 112)), np.float32)
    for px, py in TEMPLATE * 112:
        near = cut[int(py) - 6 : int(py) + 7, int(px) - 6 : int(px) + 7]
        rows, columns = np.mgrid[int(py) - 6 : int(py) + 7, int(px) - 6 : int(px) + 7]
        weight = np.maximum(near - 20, 0)
        assert abs((weight * (columns + 0.5)).sum() / weight.sum() - px) < 0.8
        assert abs((weight * (rows + 0.5)).sum() / weight.sum() - py) < 0.8


def test_alignment_of_a_large_photo_does_not_alias() -> None:
    stripes = Image.fromarray(np.tile(np.array([0, 255], np.uint8), (900, 450)))
    five = TEMPLATE * 900
    cut = np.asarray(crop(stripes, Face(None, tuple(five.ravel())), FaceCropRule("align", 1.0, 64)), np.float32)
    assert abs(cut.mean() - 127.5) < 4
    assert cut.std() < 12


def test_absurd_places_take_no_memory() -> None:
    with pytest.raises(BadImage, match="a crop of 99000x99000 pixels"):
        crop(picture(60, 60), Face((-40000, -40000, 99000, 99000)), FaceCropRule("box", 1.0))
    five = tuple(((TEMPLATE - 0.5) * 80_000 + 30).ravel())
    assert crop(picture(60, 60), Face(None, five), FaceCropRule("align", 1.2, 64)).size == (64, 64)


def test_points_in_one_place_or_outside_are_refused() -> None:
    with pytest.raises(BadImage, match="all in one place"):
        crop(picture(60, 60), Face(None, (5.0, 5.0) * 5), FaceCropRule("align", 1.0, 32))
    with pytest.raises(BadImage, match="outside the photo"):
        crop(picture(60, 60), Face(None, tuple((TEMPLATE * 30 + 900).ravel())), FaceCropRule("align", 1.0, 32))
    with pytest.raises(BadImage, match="no points"):
        crop(picture(60, 60), Face((1, 1, 9, 9)), FaceCropRule("align", 1.0, 32))


def test_the_turn_of_the_head_follows_the_true_yaw() -> None:
    yaws = FACES.pose[:, 0]
    turns = np.array([turn(points(n)) for n in range(40)])
    assert abs(np.corrcoef(yaws, turns)[0, 1]) > 0.9
