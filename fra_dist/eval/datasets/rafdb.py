"""RAF-DB, basic emotions: aligned faces of 100 px.

basic/EmoLabel/list_patition_label.txt     train_00001.jpg 5      (the official spelling)
basic/Image/aligned/train_00001_aligned.jpg

Also as it is passed on, with a folder for each label: DATASET/train/5/train_00001_aligned.jpg, DATASET/test/...
"""

from collections.abc import Iterator
from pathlib import Path

from fra_dist.errors import DataError
from fra_dist.eval.datasets.common.crop_rules import CropRule
from fra_dist.eval.datasets.common.label_files import bad_row, need, rows
from fra_dist.eval.datasets.common.labelled_face import FaceSet, Record
from fra_dist.files import is_folder, names_in, paths_in

CROP = CropRule("middle")
EXPRESSIONS = ("surprise", "fear", "disgust", "happiness", "sadness", "anger", "neutral")
"""Names of the expressions in the order of the official numbers, which begin at 1."""


def read(folder: Path) -> FaceSet:
    """The faces of a RAF-DB folder. Raises DataError when a file is missing or a row cannot be read."""
    for place in (folder, folder / "DATASET"):
        if any(is_folder(place / split / "1") for split in ("train", "test")):
            return FaceSet("rafdb", folder, tuple(_by_folder(place)), CROP, EXPRESSIONS)
    table = need(folder, "basic/EmoLabel/list_patition_label.txt", "lines of photo and label 1 to 7")
    images = need(folder, "basic/Image/aligned", "the aligned photos")
    records = []
    for number, words in rows(table):
        if len(words) != 2 or words[1] not in "1234567" or not words[0].startswith(("train_", "test_")):
            raise bad_row(table, number, "not `train_N.jpg` or `test_N.jpg` and a label from 1 to 7")
        photo = images / f"{Path(words[0]).stem}_aligned.jpg"
        records.append(Record(words[0], words[0].split("_")[0], photo, expression=int(words[1]) - 1))
    return FaceSet("rafdb", folder, tuple(records), CROP, EXPRESSIONS)


def _by_folder(folder: Path) -> Iterator[Record]:
    """The faces in folders `train/1` to `test/7`, under the names that the official list has.

    A part of the set may lack a label in one of the two; one that neither has is an error.
    """
    found = {}
    for split in ("train", "test"):
        labels = [name for name in names_in(need(folder, split, "folders 1 to 7 of photos")) if name[0] != "."]
        if not set(labels) <= set("1234567"):
            raise DataError(f"{folder / split} has {', '.join(labels)[:80]} in it, not the folders 1 to 7")
        found[split] = labels
    if missing := set("1234567").difference(*found.values()):
        raise DataError(
            f"{folder} has no folder {min(missing)} in train or test: folders 1 to 7, a label each, are needed"
        )
    for split, labels in found.items():
        for label in labels:
            for photo in paths_in(folder / split / label, "*.jpg"):
                name = photo.name.replace("_aligned", "")
                yield Record(name, split, photo, expression=int(label) - 1)
