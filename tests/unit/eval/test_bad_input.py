"""Data that cannot be used is told in one line that names it, whatever the task."""

import csv
import shutil

import numpy as np
import pytest
import torch
from PIL import Image

from fra_dist.errors import DataError
from fra_dist.eval.datasets import open_set
from fra_dist.eval.features.encoder import Encoder
from fra_dist.eval.features.feature_cache import Cache
from fra_dist.eval.miniatures import write_miniature
from fra_dist.eval.results import run_task
from fra_dist.eval.settings import Settings, TaskEntry
from fra_dist.models.backbone import build_backbone


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    return Encoder("tiny", build_backbone("tiny").eval(), 32, [0.5] * 3, [0.2] * 3, None, {"architecture": "tiny"})


@pytest.fixture(scope="module")
def originals(tmp_path_factory):
    return tmp_path_factory.mktemp("originals")


@pytest.fixture
def copy_of(originals, tmp_path):
    """A miniature of one's own to damage."""

    def make(name):
        if not (originals / name).exists():
            write_miniature(name, originals / name, 16)
        return shutil.copytree(originals / name, tmp_path / name)

    return make


def refusal(network, task, name, folder, **settings):
    entry = TaskEntry(task=task, dataset=name, data=str(folder), settings=Settings(**{"labels": (100,), **settings}))
    with pytest.raises(DataError) as caught:
        run_task(network, entry, Cache(None))
    assert "\n" not in str(caught.value)
    return str(caught.value)


def change_table(folder, change):
    """Rewrite labels.csv with changed rows."""
    with (folder / "labels.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    rows = change(rows)
    with (folder / "labels.csv").open("w", newline="") as stream:
        writer = csv.DictWriter(stream, rows[0].keys())
        writer.writeheader()
        writer.writerows(rows)


@pytest.mark.parametrize(("name", "task"), [("rafdb", "expression"), ("wflw", "alignment"), ("lfw", "verification")])
@pytest.mark.parametrize("left", [0, 300])
def test_a_half_downloaded_photo_is_named(network, copy_of, name, task, left):
    folder = copy_of(name)
    photo = sorted(folder.rglob("*.jpg"))[1]
    photo.write_bytes(photo.read_bytes()[:left])
    assert str(photo) in refusal(network, task, name, folder)


@pytest.mark.parametrize(("name", "label"), [("lapa", "train/labels/2_0.png"), ("affectnet", "3_exp.npy")])
def test_labels_whose_photos_have_not_arrived(copy_of, name, label):
    folder = copy_of(name)
    stem = label.rpartition("/")[2].removesuffix("_exp.npy").removesuffix(".png")
    gone = sorted(folder.rglob(f"{stem}.jpg"))[0]
    gone.unlink()
    with pytest.raises(DataError, match=rf"{gone.name} is missing, but .* is there \(1 such\)"):
        open_set(name, folder)


def test_labels_without_a_row_for_a_photo(copy_of):
    folder = copy_of("celeba")
    table = folder / "Anno/list_attr_celeba.txt"
    table.write_text("\n".join(table.read_text().splitlines()[:-1]) + "\n")
    with pytest.raises(DataError, match=r"has a part but no row in Anno/list_attr_celeba\.txt"):
        open_set("celeba", folder)
    folder = copy_of("csv")
    with np.load(folder / "landmarks.npz") as store:
        files, points = store["files"], store["points"]
    np.savez(folder / "landmarks.npz", files=files[1:], points=points[1:])
    with pytest.raises(DataError, match=rf"{files[0]} has no landmarks"):
        open_set("csv", folder)


def test_labels_of_other_photos(network, copy_of):
    """Counts that differ between photos and labels, and a mask of another picture."""
    folder = copy_of("ferplus")
    votes = folder / "fer2013new.csv"
    votes.write_text("\n".join(votes.read_text().splitlines()[:-2]) + "\n")
    assert "does not belong to row" in refusal(network, "expression", "ferplus", folder)
    folder = copy_of("lapa")
    mask = sorted((folder / "train/labels").glob("*.png"))[0]
    Image.fromarray(np.zeros((40, 90), np.uint8)).save(mask)
    said = refusal(network, "regions", "lapa", folder)
    assert "not the same picture" in said
    assert f"train/{mask.stem}.jpg" in said


def test_a_class_that_a_share_of_the_labels_leaves_out(network, copy_of):
    said = refusal(network, "expression", "rafdb", copy_of("rafdb"), labels=(1, 100))
    assert "none in 1 % of the labels: use --labels" in said
    said = refusal(network, "attributes", "celeba", copy_of("celeba"), labels=(1,))
    assert "among the 1 of 1 % of the labels" in said


@pytest.mark.parametrize(
    ("box", "says"),
    [("5 5 5 5", "measures 0.0 by 0.0"), ("90000 90000 90100 90100", "outside the photo")],
)
def test_a_photo_without_a_face(network, copy_of, box, says):
    folder = copy_of("wflw")
    table = folder / "WFLW_annotations/list_98pt_rect_attr_train_test/list_98pt_rect_attr_test.txt"
    first, *others = table.read_text().splitlines()
    words = first.split()
    table.write_text("\n".join([" ".join([*words[:196], box, *words[200:]]), *others]) + "\n")
    said = refusal(network, "alignment", "wflw", folder)
    assert "no face to cut from" in said
    assert words[206] in said
    assert says in said


@pytest.mark.parametrize("task", ["expression", "attributes", "alignment", "regions", "consistency"])
def test_a_person_in_two_parts_is_refused_by_every_task(network, copy_of, task):
    folder = copy_of("csv")

    def mix(rows):
        parts = {part: next(row for row in rows if row["split"] == part) for part in ("train", "test")}
        parts["test"]["person"] = parts["train"]["person"]
        return rows

    change_table(folder, mix)
    assert "in the test part" in refusal(network, task, "csv", folder)


def test_a_photo_in_two_parts_is_refused(network, copy_of):
    folder = copy_of("rafdb")
    table = folder / "basic/EmoLabel/list_patition_label.txt"
    table.write_text(table.read_text() + table.read_text().splitlines()[-1] + "\n")
    open_set("rafdb", folder)  # twice in the test part is no leak
    folder = copy_of("csv")
    change_table(
        folder,
        lambda rows: [*rows, {**rows[0], "split": "train" if rows[0]["split"] == "test" else "test", "person": ""}],
    )
    assert "is in the test part and in another one" in refusal(network, "expression", "csv", folder)
