"""FER2013 and FERPlus: grey faces of 48 px in one table.

    fer2013.csv       emotion,pixels,Usage                     48·48 numbers in `pixels`
    fer2013new.csv    Usage,Image name,neutral,...,unknown,NF  FERPlus: ten annotators' votes for the same rows

FERPlus by majority, as its authors have it: single votes are taken for slips and left out; a photo counts when more
than half of the other votes agree on one of the eight expressions.
"""

import csv
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fra_dist.eval.datasets.common.crop_rules import CropRule
from fra_dist.eval.datasets.common.label_files import bad_row, need
from fra_dist.eval.datasets.common.labelled_face import FaceSet, Record

CROP = CropRule("middle")
SPLITS = {"Training": "train", "PublicTest": "val", "PrivateTest": "test"}
EXPRESSIONS = ("anger", "disgust", "fear", "happiness", "sadness", "surprise", "neutral")
PLUS = ("neutral", "happiness", "surprise", "sadness", "anger", "disgust", "fear", "contempt")
SIDE = 48


def read(folder: Path) -> FaceSet:
    """The faces of a FER2013 table. Raises DataError when the table is missing or a row cannot be read."""
    records = []
    for number, (row, pixels) in enumerate(_photos(folder)):
        if row["emotion"] not in ("0", "1", "2", "3", "4", "5", "6"):
            raise bad_row(folder / "fer2013.csv", number + 2, f"emotion {row['emotion']!r} is not 0 to 6")
        name, split = f"row {number}", SPLITS[row["Usage"]]
        records.append(Record(name, split, pixels=pixels, expression=int(row["emotion"])))
    return FaceSet("fer2013", folder, tuple(records), CROP, EXPRESSIONS)


def read_plus(folder: Path) -> FaceSet:
    """The faces of FER2013 with FERPlus labels by majority.

    Raises DataError when a table is missing, a row cannot be read, or the two tables do not belong together.
    """
    votes = need(folder, "fer2013new.csv", "the votes of FERPlus")
    table = _rows(votes, ("Usage", *PLUS, "unknown", "NF"))
    records = []
    number = -1
    for number, (row, pixels) in enumerate(_photos(folder)):
        voted = next(table, None)
        if voted is None or voted["Usage"] != row["Usage"]:
            raise bad_row(votes, number + 2, f"it does not belong to row {number + 2} of fer2013.csv")
        label = majority([_votes(votes, number, voted[name]) for name in (*PLUS, "unknown", "NF")])
        if label is not None:
            records.append(Record(f"row {number}", SPLITS[row["Usage"]], pixels=pixels, expression=label))
    if next(table, None) is not None:
        raise bad_row(votes, number + 3, "fer2013.csv has no such row")
    return FaceSet("ferplus", folder, tuple(records), CROP, PLUS, notes=("labels by majority of votes",))


def majority(votes: list[int]) -> int | None:
    """Index into PLUS of the expression that more than half of the votes name, single votes left out;
    None if there is none."""
    counted = [vote if vote > 1 else 0 for vote in votes]
    best = int(np.argmax(counted))
    return best if best < len(PLUS) and counted[best] > 0.5 * sum(counted) else None


def _photos(folder: Path) -> Iterator[tuple[dict[str, str], NDArray[np.uint8]]]:
    path = need(folder, "fer2013.csv", "columns emotion, pixels and Usage")
    for number, row in enumerate(_rows(path, ("emotion", "pixels", "Usage")), 2):
        try:
            pixels = np.array(row["pixels"].split(), np.int64)
        except ValueError:
            raise bad_row(path, number, "its pixels are not numbers") from None
        if len(pixels) != SIDE * SIDE or pixels.min() < 0 or pixels.max() > 255:
            raise bad_row(path, number, f"{len(pixels)} pixels instead of {SIDE * SIDE} from 0 to 255")
        if row["Usage"] not in SPLITS:
            raise bad_row(path, number, f"Usage {row['Usage']!r} is not one of {', '.join(SPLITS)}")
        yield row, pixels.astype(np.uint8).reshape(SIDE, SIDE)


def _rows(path: Path, columns: tuple[str, ...]) -> Iterator[dict[str, str]]:
    with path.open(newline="", encoding="utf-8", errors="replace") as stream:
        reader = csv.DictReader(stream)
        missing = [name for name in columns if name not in (reader.fieldnames or ())]
        if missing:
            raise bad_row(path, 1, f"it has no column {missing[0]!r}")
        for number, row in enumerate(reader, 2):
            if any(row[name] is None for name in columns):
                raise bad_row(path, number, "it is cut short")
            yield row


def _votes(path: Path, number: int, text: str) -> int:
    if not text.strip().isdecimal():
        raise bad_row(path, number + 2, f"{text!r} is not a number of votes")
    return int(text)
