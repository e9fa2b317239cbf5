"""Faces of every size, and crops that deserve a look."""

import json
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from fra_dist.cli.main import main
from fra_dist.data.decoding.images import BadImage
from fra_dist.data.making.cleaning import PhotoRules
from fra_dist.data.making.faces.annotations import Face
from fra_dist.data.making.faces.crop_facts import crop_facts, doubt_of
from fra_dist.data.making.faces.crop_notes import CROPS
from fra_dist.data.making.faces.detectors import choose_face, open_detector
from fra_dist.data.making.faces.face_crop import TEMPLATE, FaceCropRule
from fra_dist.data.making.faces.scales import over_scales, sides
from fra_dist.data.making.selection import Selection
from fra_dist.data.making.shard_making import ShardOptions, make_shards
from fra_dist.data.shards.manifest import read_members
from fra_dist.report.preparation_report import write_preparation_page
from fra_dist.synthetic import render

FACES = render(np.arange(6), 320)


def five(number: int) -> NDArray[np.float64]:
    marks = FACES.landmarks[number]
    return np.array([marks[36:42].mean(0), marks[42:48].mean(0), marks[30], marks[48], marks[54]])


# sizes


@pytest.mark.parametrize(
    ("longer", "wanted"),
    [(40, [40, 80]), (200, [200, 400]), (256, [256, 512]), (300, [256, 512]), (700, [256, 512, 700]),
     (3000, [256, 512, 1024, 2048])],
)  # fmt: skip
def test_copies_grow_to_the_photo(longer: int, wanted: list[int]) -> None:
    assert list(sides(longer)) == wanted


def squares(pixels: NDArray[np.uint8]) -> list[Face]:
    """A detector of bright squares of 20 to 220 pixels, which gives of larger ones half the size, as networks do."""
    from scipy.ndimage import find_objects, label

    found = []
    for rows, columns in find_objects(label(pixels[..., 0] > 100)[0]):
        width, height = columns.stop - columns.start, rows.stop - rows.start
        shrink = width / 4 if width > 220 else 0
        if width >= 20:
            box = (columns.start + shrink, rows.start + shrink, width - 2 * shrink, height - 2 * shrink)
            found.append(Face(box, (columns.start, rows.start) * 5, 0.9))
    return found


@pytest.mark.parametrize("side", [25, 60, 200, 500, 900])
def test_one_face_of_any_size_is_found_once_at_its_place(side: int) -> None:
    photo = np.zeros((1000, 1200, 3), np.uint8)
    photo[40 : 40 + side, 100 : 100 + side] = 255
    (face,) = over_scales(squares, photo)
    assert face.box is not None
    assert np.allclose(face.box, (100, 40, side, side), atol=6)
    assert face.points is not None
    assert np.allclose(np.reshape(face.points, (5, 2)), (100, 40), atol=4)


def test_small_faces_beside_each_other_are_all_found_and_those_beside_a_large_one_do_not_matter() -> None:
    photo = np.zeros((1000, 1500, 3), np.uint8)
    for x in (100, 300, 500):
        photo[500:550, x : x + 50] = 255
    assert len(over_scales(squares, photo)) == 3
    photo[100:400, 700:1000] = 255
    assert len(over_scales(squares, photo)) == 1, "faces that cannot count are not looked for on finer copies"


@pytest.mark.parametrize("side", [90, 700, 1700])
def test_the_bundled_detector_measures_faces_of_any_size(side: int) -> None:
    """From 600 pixels on it gave points that shrank to the middle: 0.8, 0.5, 0.3 of the distance of the eyes."""
    photo = Image.fromarray(FACES.images[0]).resize((side, side), Image.Resampling.BICUBIC)
    pixels = np.pad(np.asarray(photo), ((side // 4,) * 2, (side // 4,) * 2, (0, 0)), "edge")
    face = choose_face(open_detector("centerface")(pixels), *pixels.shape[:2])
    assert face is not None
    assert face.points is not None
    found, true = np.reshape(face.points, (5, 2)), five(0) * side / 320 + side // 4
    eyes = np.linalg.norm(true[1] - true[0])
    assert 0.85 < np.linalg.norm(found[1] - found[0]) / eyes < 1.15
    assert np.linalg.norm(found - true, axis=1).mean() < 0.2 * eyes


# facts


def test_a_crop_knows_how_it_lies() -> None:
    face, rule = Face(None, tuple(((TEMPLATE - 0.5) * 100 + 50).ravel())), FaceCropRule("align", 1.5, 64)
    facts = crop_facts(face, rule, 200, 200)
    assert facts.side == pytest.approx(150)
    assert facts.padded == pytest.approx(1 - (125 / 150) ** 2, abs=0.03)
    assert facts.doubt == ""
    assert crop_facts(Face((50, 50, 40, 20)), FaceCropRule("box", 1.5), 200, 200) == (pytest.approx(60), 0, "")
    with pytest.raises(BadImage, match="outside"):
        crop_facts(Face((300, 50, 40, 20)), FaceCropRule("box"), 200, 200)


@pytest.mark.parametrize(
    ("order", "move", "reason"),
    [
        ([0, 1, 2, 3, 4], (0, 0), ""),
        ([1, 0, 2, 4, 3], (0, 0), "mirrored"),
        ([1, 0, 2, 3, 4], (0, 0), "mirrored"),
        ([0, 1, 2, 4, 3], (0, 0), "mirrored"),
        ([0, 1, 2, 3, 4], (0, 0.6), "implausible points: nose at"),
    ],
)
def test_impossible_points_are_doubted(order: list[int], move: tuple[float, float], reason: str) -> None:
    points = TEMPLATE[order].copy()
    points[2] += move
    for angle in (0.0, 1.0, 3.0):
        turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        assert doubt_of(tuple((points @ turn.T * 90 + 10).ravel())).startswith(reason)
        assert bool(doubt_of(tuple((points @ turn.T * 90 + 10).ravel()))) == bool(reason)


def test_eyes_too_close_and_too_far_apart_are_doubted() -> None:
    for factor in (0.4, 2.2):
        points = TEMPLATE.copy()
        points[:2, 0] = 0.5 + (points[:2, 0] - 0.5) * factor
        assert "implausible points: eyes" in doubt_of(tuple((points * 100).ravel()))


# sets


@pytest.fixture
def album(tmp_path: Path) -> tuple[Path, Path]:
    """Twelve photos with points: two crops reach over the edge, one has mirrored points, one is three times as wide."""
    (tmp_path / "photos").mkdir()
    lines = ["name," + ",".join(f"p{n}{axis}" for n in range(1, 6) for axis in "xy")]
    for number in range(12):
        pixels = np.random.default_rng(number).integers(0, 255, (40, 40, 3), np.uint8)
        Image.fromarray(pixels).resize((400, 400)).save(tmp_path / f"photos/{number:02d}.jpg")
        points = (TEMPLATE - 0.5) * (300 if number == 3 else 100) + 200
        points = points[[1, 0, 2, 4, 3]] if number == 5 else points
        points = points - 170 if number in (7, 8) else points
        lines.append(f"{number:02d}.jpg," + ",".join(f"{v:.3f}" for v in points.ravel()))
    (tmp_path / "points.csv").write_text("\n".join(lines))
    return tmp_path / "photos", tmp_path / "points.csv"


def test_odd_crops_are_counted_named_and_shown(
    album: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    words = ["shards", "make", str(album[0]), "--out", str(out), "--crop", "align", "--landmarks", str(album[1])]
    assert main([*words, "--size", "48", "--margin", "1", "--order", "source", "--shard-samples", "5"]) == 0
    text = capsys.readouterr().out
    assert "crops: 100 pixels of the photo a side in the median, 22.5 to 300" in text
    assert "to look at: 4 crops (2 padded, 1 wide crop, 1 mirrored points, 1 narrow crop)" in text
    noted = {item["key"]: item for item in map(json.loads, (out / CROPS).read_text().splitlines())}
    assert sorted(noted) == ["03", "05", "07", "08"]
    assert noted["03"]["notes"] == ["wide crop: its side in the photo is 3.00 times the median"]
    assert noted["05"]["sample"] == 5
    page = (out / "report.html").read_text()
    for words_ in ("How crops lie in their photos", "To look at: mirrored points", "padded"):
        assert words_ in page


def test_each_sample_says_how_its_crop_lies(album: tuple[Path, Path], tmp_path: Path) -> None:
    rules = PhotoRules(crop=FaceCropRule("align", 1.0, 48))
    options = ShardOptions(photos=rules, selection=Selection(landmarks=album[1]), order="source")
    manifest = make_shards(album[0], tmp_path / "out", options)
    crops = [json.loads(read_members(manifest, n)["json"])["crop"] for n in range(12)]
    assert [crop["side"] for crop in crops] == [{3: 300.0, 5: 22.5}.get(n, 100.0) for n in range(12)]
    assert crops[5]["doubt"].startswith("mirrored")
    assert "doubt" not in crops[4]
    assert sum(manifest.stats["crops"]["scale"]) == 12


def test_whole_photos_have_no_crops_to_look_at(album: tuple[Path, Path], tmp_path: Path) -> None:
    manifest = make_shards(album[0], tmp_path / "out", ShardOptions())
    assert "crops" not in manifest.stats
    assert not (tmp_path / "out" / CROPS).exists()
    page = write_preparation_page(manifest, str(album[0]), tmp_path / "page.html").read_text()
    assert "How crops lie" not in page
