"""CelebA: 40 attributes, 5 landmarks, people and the official partition, for the aligned photos of 178 × 218 px.

Anno/list_attr_celeba.txt, Anno/list_landmarks_align_celeba.txt   count, names, then a row a photo
Anno/identity_CelebA.txt                                          000001.jpg 2880
Eval/list_eval_partition.txt                                      000001.jpg 0      (0 train, 1 val, 2 test)
Img/img_align_celeba/000001.jpg

torchvision has the same files side by side, in a folder `celeba`; Kaggle has tables list_*.csv with one line of names,
none of people, and img_align_celeba/img_align_celeba/000001.jpg.
"""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fra_dist.errors import DataError
from fra_dist.eval.datasets.common.crop_rules import CropRule
from fra_dist.eval.datasets.common.label_files import bad_row, from_corner, need_one, numbers, rows
from fra_dist.eval.datasets.common.labelled_face import FaceSet, Record
from fra_dist.files import exists

CROP = CropRule("fixed", fixed=(89.0, 121.0, 160.0))
_IMAGES = (
    "Img/img_align_celeba",
    "img_align_celeba/img_align_celeba",
    "img_align_celeba",
    "celeba/img_align_celeba",
)
PARTS = {"0": "train", "1": "val", "2": "test"}


def read(folder: Path) -> FaceSet:
    """The faces of a CelebA folder.

    Raises DataError when a file is missing, a row cannot be read, or the files disagree on the photos.
    """
    images = need_one(folder, _IMAGES, "the aligned photos 000001.jpg, ...")
    parts = read_partition(_table(folder, "Eval/list_eval_partition", "lines of photo and 0, 1 or 2"))
    signs = _table(folder, "Anno/list_attr_celeba", "40 attributes of each photo")
    names, attributes = read_signs(signs)
    places = _table(folder, "Anno/list_landmarks_align_celeba", "five landmarks of each aligned photo")
    skip = 1 if places.suffix == ".csv" else 2
    points = {w[0]: from_corner(numbers(places, n, w[1:], 10).reshape(5, 2), 0) for n, w in rows(places, skip)}
    tables = (folder / place / "identity_CelebA.txt" for place in ("Anno", "", "celeba"))
    people_file = next((table for table in tables if exists(table)), None)
    people = {words[0]: words[-1] for _, words in rows(people_file)} if people_file is not None else {}
    for other, file in ((attributes, signs), (points, places)):
        if parts.keys() - other.keys():
            raise DataError(
                f"{folder}: {min(parts.keys() - other.keys())} has a part but no row in {file.relative_to(folder)}"
            )
    records = [
        Record(
            name,
            part,
            images / name,
            attributes=tuple(attributes[name].tolist()),
            points=points[name],
            identity=people.get(name),
        )
        for name, part in parts.items()
    ]
    notes = () if people else ("without Anno/identity_CelebA.txt: people are not checked for being in two parts",)
    return FaceSet("celeba", folder, tuple(records), CROP, (), names, "celeba5", notes=notes)


def _table(folder: Path, official: str, what: str) -> Path:
    """The file of a table, by its official place without .txt."""
    name = official.rpartition("/")[2]
    return need_one(folder, (f"{official}.txt", f"{name}.txt", f"celeba/{name}.txt", f"{name}.csv"), what)


def read_partition(path: Path) -> dict[str, str]:
    """The official partition: photo -> train, val or test. Raises DataError when a row cannot be read."""
    found = {}
    for number, words in rows(path, skip=path.suffix == ".csv"):
        if len(words) != 2 or words[1] not in PARTS:
            raise bad_row(path, number, "not a photo and a part 0, 1 or 2")
        found[words[0]] = PARTS[words[1]]
    return found


def read_signs(path: Path) -> tuple[tuple[str, ...], dict[str, NDArray[np.int8]]]:
    """The names of a table's columns, and for each photo 1 or 0 per column.

    The table is a count, a row of names and rows of 1 and -1; in a .csv the row of names is the first.
    Raises DataError when a row cannot be read.
    """
    csv = path.suffix == ".csv"
    table = rows(path, skip=0 if csv else 1)
    names = tuple(next(table, (2, []))[1][1 if csv else 0 :])
    if not names:
        raise bad_row(path, 2, "it should hold the names of the attributes")
    found = {}
    for number, words in table:
        values = numbers(path, number, words[1:], len(names))
        found[words[0]] = (values > 0).astype(np.int8)
    return names, found
