"""Every layout: a miniature is written, read back, and damaged."""

import shutil
import sys
from pathlib import Path

import numpy as np
import pytest

from fra_dist.errors import DataError
from fra_dist.eval.datasets import READERS, fer2013, open_set
from fra_dist.eval.datasets.common.crop_rules import CropRule
from fra_dist.eval.datasets.common.labelled_face import FaceSet, Record, refuse_leaks, with_validation
from fra_dist.eval.datasets.common.landmark_schemes import SCHEMES
from fra_dist.eval.miniatures import WRITERS, write_miniature
from fra_dist.eval.miniatures.faces import draw, points_of
from fra_dist.eval.miniatures.people import CELEBA
from fra_dist.synthetic import ATTRIBUTES, EXPRESSIONS

PLACES = {
    "rafdb": "basic/EmoLabel/list_patition_label.txt", "affectnet": "train_set/annotations/3_exp.npy",
    "fer2013": "fer2013.csv", "ferplus": "fer2013new.csv", "celeba": "Eval/list_eval_partition.txt",
    "lfwa": "indices_train_test.mat", "lfw": "pairs.txt",
    "wflw": "WFLW_annotations/list_98pt_rect_attr_train_test/list_98pt_rect_attr_test.txt", "300w": "ibug/1.pts",
    "aflw19": "AFLWinfo_release.mat", "celebamask": "CelebA-HQ-to-CelebA-mapping.txt",
    "lapa": "train/labels/2_0.png", "csv": "labels.csv",
}  # fmt: skip


MIDDLE = CropRule("middle")
CROPS = {
    **dict.fromkeys(("rafdb", "affectnet", "affectnet8", "fer2013", "ferplus", "celebamask", "csv", "shards"), MIDDLE),
    "celeba": CropRule("fixed", fixed=(89.0, 121.0, 160.0)), "wflw": CropRule("box", scale=1.25),
    **dict.fromkeys(("lfwa", "lfw"), CropRule("fixed", fixed=(125.0, 125.0, 150.0))),
    "300w": CropRule("points", scale=1.3, down=-0.05), "lapa": CropRule("points", scale=1.4, down=-0.05),
    "aflw19": CropRule("box", scale=1.1),
}  # fmt: skip


@pytest.fixture(scope="module")
def minis(tmp_path_factory):
    """Each miniature is written once."""
    home, made = tmp_path_factory.mktemp("minis"), set()

    def folder(name):
        if name not in made:
            write_miniature(name, home / name, count=8 if name != "lfw" else 10)
            made.add(name)
        return home / name

    return folder


def test_every_reader_has_a_miniature():
    assert READERS.keys() == WRITERS.keys()


@pytest.mark.parametrize("name", READERS)
def test_published_scores_are_of_these_crops(name, minis):
    assert open_set(name, minis(name)).crop == CROPS[name]


@pytest.mark.parametrize("name", sorted(set(READERS) - {"lfw"}))
def test_what_was_drawn_is_read(name, minis):
    faces = with_validation(open_set(name, minis(name)), seed=0)
    refuse_leaks(faces)
    assert {record.split for record in faces.records} == {"train", "val", "test"}
    assert len({record.name for record in faces.records}) == len(faces.records)
    for record in faces.records:
        assert record.expression is None or 0 <= record.expression < len(faces.expressions)
        assert (record.attributes is None) == (not faces.attributes)
        assert not faces.attributes or len(record.attributes) == len(faces.attributes)
        assert not faces.scheme or record.points.shape == (SCHEMES[faces.scheme].count, 2)
    if faces.mask_classes:
        mask = faces.records[0].mask()
        assert mask.ndim == 2
        assert set(np.unique(mask)) <= {*range(len(faces.mask_classes)), 255}
        assert (mask == faces.mask_classes.index("skin")).mean() > 0.1


def test_rafdb_labels_are_those_of_the_faces(minis):
    faces = open_set("rafdb", minis("rafdb"))
    drawn = draw(8, 100, 0).expression
    named = [faces.expressions[r.expression] for r in faces.of("train")]
    assert named == [EXPRESSIONS[e] for e in drawn]


def same(one, two):
    """Two readings of the same faces, which lie in other places."""
    assert [r.name for r in one.records] == [r.name for r in two.records]
    for a, b in zip(one.records, two.records, strict=True):
        assert (a.split, a.expression, a.attributes) == (b.split, b.expression, b.attributes)
        assert np.array_equal(a.points, b.points)
        assert a.image.read_bytes() == b.image.read_bytes()
    assert (one.attributes, one.expressions, one.crop) == (two.attributes, two.expressions, two.crop)


def test_rafdb_by_folders_of_labels(minis, tmp_path):
    official = open_set("rafdb", minis("rafdb"))
    for record in official.records:
        place = tmp_path / "DATASET" / record.split / str(record.expression + 1)
        place.mkdir(parents=True, exist_ok=True)
        shutil.copy(record.image, place)
    for folder in (tmp_path, tmp_path / "DATASET"):
        found = open_set("rafdb", folder)
        ordered = tuple(sorted(found.records, key=lambda r: [o.name for o in official.records].index(r.name)))
        same(official, FaceSet(**{**vars(found), "records": ordered}))
    (tmp_path / "DATASET/test/neutral").mkdir()
    with pytest.raises(DataError, match=r"test has .*neutral in it, not the folders 1 to 7"):
        open_set("rafdb", tmp_path)
    (tmp_path / "DATASET/test/neutral").rmdir()
    for split in ("train", "test"):
        shutil.rmtree(tmp_path / "DATASET" / split / "4", ignore_errors=True)
    with pytest.raises(DataError, match=r"DATASET has no folder 4 in train or test"):
        open_set("rafdb", tmp_path)


def test_celeba_as_torchvision_has_it(minis, tmp_path):
    mini = minis("celeba")
    shutil.copytree(mini / "Img/img_align_celeba", tmp_path / "celeba/img_align_celeba")
    for table in [*(mini / "Anno").iterdir(), *(mini / "Eval").iterdir()]:
        shutil.copy(table, tmp_path / "celeba")
    for folder in (tmp_path, tmp_path / "celeba"):
        same(open_set("celeba", mini), open_set("celeba", folder))
        assert [r.identity for r in open_set("celeba", folder).records] == [
            r.identity for r in open_set("celeba", mini).records
        ]


def test_celeba_as_kaggle_has_it(minis, tmp_path):
    mini = minis("celeba")
    shutil.copytree(mini / "Img/img_align_celeba", tmp_path / "img_align_celeba/img_align_celeba")
    for place, head in (
        ("Anno/list_attr_celeba.txt", None),
        ("Eval/list_eval_partition.txt", ["partition"]),
        ("Anno/list_landmarks_align_celeba.txt", None),
    ):
        lines = [line.split() for line in (mini / place).read_text().splitlines()]
        rows = [["image_id", *(head or lines[1])], *lines[0 if head else 2 :]]
        (tmp_path / Path(place).with_suffix(".csv").name).write_text("".join(",".join(row) + "\n" for row in rows))
    faces = open_set("celeba", tmp_path)
    same(open_set("celeba", mini), faces)
    assert "people are not checked" in faces.notes[0]


def test_affectnet_7_leaves_out_contempt(minis, tmp_path):
    write_miniature("affectnet", tmp_path / "a", count=10)
    seven, eight = open_set("affectnet", tmp_path / "a"), open_set("affectnet8", tmp_path / "a")
    assert len(eight.records) == len(seven.records) + 1
    assert eight.expressions[-1] == "contempt"
    assert eight.scheme == "ibug68"


@pytest.mark.parametrize(
    ("votes", "label"),
    [
        ([8, 0, 0, 0, 0, 0, 0, 0, 1, 0], 0),
        ([5, 5, 0, 0, 0, 0, 0, 0, 0, 0], None),  # half is not a majority
        ([4, 3, 1, 1, 1, 0, 0, 0, 0, 0], 0),  # single votes do not count
        ([1, 0, 0, 0, 0, 0, 0, 0, 9, 0], None),  # unknown
        ([0, 0, 0, 0, 0, 0, 0, 7, 0, 0], 7),
    ],
)
def test_ferplus_majority(votes, label):
    assert fer2013.majority(votes) == label


def test_celeba_attributes_and_landmarks_are_those_of_the_faces(minis):
    faces = open_set("celeba", minis("celeba"))
    drawn = draw(16, 160, 0, people=5)
    assert set(faces.attributes) <= set(CELEBA)
    by_name = {record.name: record for record in faces.records}
    for n in range(16):
        record = by_name[f"{n + 1:06d}.jpg"]
        for name, has in zip(faces.attributes, record.attributes, strict=True):
            assert has == int(drawn.attributes[n, ATTRIBUTES.index(CELEBA[name])])
        assert record.points[2] == pytest.approx(drawn.landmarks[n, 30] + [9, 41], abs=0.51)
    assert len({record.identity for record in faces.records}) == len(set(drawn.identity))


def test_300w_counts_pixels_from_0_and_names_its_subsets(minis):
    faces = open_set("300w", minis("300w"))
    assert [record.subsets for record in faces.of("train")] == [()] * len(faces.of("train"))
    assert {record.subsets[0] for record in faces.of("test")} == {"common", "challenging"}
    first = next(record for record in faces.records if record.name == "afw/0.jpg")
    assert first.points == pytest.approx(draw(2, 96, 0).landmarks[0] + [22, 8], abs=1e-4)


def test_aflw_boxes_hold_the_points_in_the_right_order(minis):
    for record in open_set("aflw19", minis("aflw19")).records:
        x0, y0, x1, y1 = record.box
        assert (record.points >= [x0 - 1e-6, y0 - 1e-6]).all()
        assert (record.points <= [x1 + 1e-6, y1 + 1e-6]).all()


def test_lfw_folds(minis):
    faces = open_set("lfw", minis("lfw"))
    assert len(faces.pairs) == 20
    assert [pair.fold for pair in faces.pairs] == [k // 2 for k in range(20)]
    assert [pair.same for pair in faces.pairs[:2]] == [True, False]


def test_table_of_ones_own(minis):
    faces = open_set("csv", minis("csv"))
    assert faces.attributes == ("male", "smiling")
    assert {name for record in faces.records for name in record.subsets} <= {"frontal", "turned"}
    assert faces.mask_classes == ("background", "hair", "skin", "brows", "eyes", "nose", "mouth")
    assert all(record.age is not None and record.yaw is not None for record in faces.records)


@pytest.mark.parametrize("scheme", sorted(SCHEMES))
def test_schemes_put_eyes_where_eyes_are(scheme):
    landmarks = draw(3, 64, 0).landmarks.astype(float)
    points, how = points_of(landmarks, scheme), SCHEMES[scheme]
    assert points.shape == (3, how.count, 2)
    if how.corners:
        assert points[:, how.corners[0]] == pytest.approx(landmarks[:, 36])
        assert points[:, how.corners[1]] == pytest.approx(landmarks[:, 45])
    for pupil, corners in zip(how.pupils, (range(36, 42), range(42, 48)), strict=True):
        assert points[:, list(pupil)].mean(1) == pytest.approx(landmarks[:, list(corners)].mean(1), abs=1.0)


@pytest.mark.parametrize("name", sorted(PLACES))
def test_missing_and_damaged_files_are_named(name, minis, tmp_path):
    folder = tmp_path / name
    shutil.copytree(minis(name), folder)
    place = folder / PLACES[name]
    for damage in ("garbage", "gone"):
        if damage == "gone":
            place.unlink()
        elif place.suffix != ".png":  # masks are read when they are used
            place.write_bytes(b"\x00 nonsense 17\n")
        else:
            continue
        with pytest.raises(DataError) as caught:
            open_set(name, folder)
        assert place.name.split(".")[0] in str(caught.value)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["rafdb", "celeba", "wflw", "lfw", "celebamask"])
def test_a_photo_that_is_missing_is_named_and_counted(name, minis, tmp_path):
    folder = tmp_path / name
    shutil.copytree(minis(name), folder)
    photo = sorted(folder.rglob("*.jpg"))[0]
    photo.unlink()
    with pytest.raises(DataError, match=photo.name) as caught:
        open_set(name, folder)
    assert "1 of " in str(caught.value)


def test_a_broken_mask_is_named(minis, tmp_path):
    shutil.copytree(minis("lapa"), tmp_path / "lapa")
    broken = tmp_path / "lapa/train/labels/0_0.png"
    broken.write_bytes(broken.read_bytes()[:40])
    record = next(r for r in open_set("lapa", tmp_path / "lapa").records if r.name == "train/0_0.jpg")
    with pytest.raises(DataError, match=r"0_0\.png"):
        record.mask()


def test_unknown_sets_and_folders(tmp_path):
    with pytest.raises(DataError, match="not known"):
        open_set("imagenet", tmp_path)
    with pytest.raises(DataError, match="no such folder"):
        open_set("rafdb", tmp_path / "nowhere")
    (tmp_path / "x.tar").write_bytes(b"")
    with pytest.raises(DataError, match="unpack"):
        open_set("csv", tmp_path / "x.tar")
    with pytest.raises(DataError, match="new folder"):
        write_miniature("rafdb", tmp_path)


def test_people_in_two_parts_are_refused(tmp_path):
    records = (
        Record("a", "train", identity="7"),
        Record("b", "test", identity="7"),
        Record("c", "train", identity="8"),
    )
    faces = FaceSet("own", tmp_path, records, CropRule("middle"))
    with pytest.raises(DataError, match="person 7"):
        refuse_leaks(faces)
    with pytest.raises(DataError, match="no test part"):
        with_validation(FaceSet("own", tmp_path, records[::2], CropRule("middle")), 0)


def test_validation_takes_whole_people(tmp_path):
    records = (*(Record(f"{n}", "train", identity=str(n // 5)) for n in range(50)), Record("t", "test"))
    faces = with_validation(FaceSet("own", tmp_path, records, CropRule("middle")), seed=3)
    parts = [{record.identity for record in faces.of(split)} for split in ("train", "val")]
    assert not parts[0] & parts[1]
    assert len(faces.of("val")) == 10
    assert with_validation(faces, seed=9) is faces


def test_matlab_7_3_files_are_read_as_older_ones(minis, tmp_path):
    """The official files of LFWA are HDF5: transposed numbers, and cells that refer to text as character codes."""
    import h5py

    from fra_dist.eval.datasets.common.label_files import matlab

    shutil.copytree(minis("lfwa"), tmp_path / "lfwa")
    old = open_set("lfwa", tmp_path / "lfwa")
    for path in (tmp_path / "lfwa").glob("*.mat"):
        classic = matlab(path)
        with h5py.File(path, "w", userblock_size=512) as store:
            for key, value in classic.items():
                if isinstance(value, np.ndarray):
                    store.create_dataset(key, data=value.T)
                    continue
                codes = [np.array([[ord(letter)] for letter in text], np.uint16) for text in value]
                cells = [store.create_dataset(f"#refs#/{key}{k}", data=one).ref for k, one in enumerate(codes)]
                store.create_dataset(key, data=np.array([cells], dtype=h5py.ref_dtype), dtype=h5py.ref_dtype)
        with path.open("r+b") as stream:
            stream.write(b"MATLAB 7.3 MAT-file, Platform: GLNXA64".ljust(124) + b"\x00\x02IM")
    new = open_set("lfwa", tmp_path / "lfwa")
    assert new.attributes == old.attributes
    assert new.records == old.records
    assert len(new.records) == 16


def test_without_h5py_the_extra_is_named(minis, tmp_path, monkeypatch):
    shutil.copytree(minis("lfwa"), tmp_path / "lfwa")
    (tmp_path / "lfwa/lfw_att_40.mat").write_bytes(b"MATLAB 7.3 MAT-file".ljust(600))
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(DataError, match=r"lfw_att_40\.mat is a MATLAB 7\.3 file.*fra-dist\[lfwa\]") as caught:
        open_set("lfwa", tmp_path / "lfwa")
    assert "\n" not in str(caught.value)
