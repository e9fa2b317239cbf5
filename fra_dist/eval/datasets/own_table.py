"""Faces of one's own: cropped photos and one table.

    labels.csv       file, split (train, val, test), and any of expression, gender, age, mask, person, yaw, set;
                     columns named attr_NAME hold 1, 0 or nothing
    landmarks.npz    `files` (N,), `points` (N, P, 2) as shares of the photo's side; P = 68, 49, 98, 106, 19 or 5
    masks.json       names of the mask's values, {"classes": ["background", ...]}; without it: background, hair and
                     brows, skin, eyes, nose, mouth

`set` names a group that is scored by itself too. Photos are square crops: the rule is the middle square.
"""

import csv
import json
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fra_dist.data.decoding.images import BadImage, probe
from fra_dist.errors import DataError
from fra_dist.eval.datasets.common.crop_rules import CropRule
from fra_dist.eval.datasets.common.label_files import bad_row, mask_file, need
from fra_dist.eval.datasets.common.labelled_face import SPLITS, FaceSet, Record
from fra_dist.eval.datasets.common.landmark_schemes import SCHEMES
from fra_dist.files import exists, raw_bytes, raw_text

CROP = CropRule("middle")
CLASSES = ("background", "hair and brows", "skin", "eyes", "nose", "mouth")
BY_COUNT = {scheme.count: name for name, scheme in SCHEMES.items()}


def read(folder: Path) -> FaceSet:
    """The faces of a folder with such a table.

    Raises DataError when the table is missing, or a row or a landmark file cannot be used.
    """
    table = need(folder, "labels.csv", "the columns file and split, and labels")
    rows = _rows(table)
    if not rows:
        raise bad_row(table, 1, "it has no rows")
    points, scheme = _points(folder / "landmarks.npz")
    columns = rows[0][1].keys()
    names = ["male"] * ("gender" in columns) + sorted(c.removeprefix("attr_") for c in columns if c.startswith("attr_"))
    expressions = sorted({row["expression"] for _, row in rows if row.get("expression")})
    classes = _classes(folder)
    records = []
    for number, row in rows:
        places = points.get(row["file"])
        if points and places is None:
            raise bad_row(table, number, f"{row['file']} has no landmarks in landmarks.npz")
        mask = folder / row["mask"] if row.get("mask") else None
        width, height = _size(folder / row["file"]) if places is not None else (1, 1)
        records.append(
            Record(
                row["file"],
                row["split"],
                folder / row["file"],
                subsets=(row["set"],) if row.get("set") else (),
                expression=expressions.index(row["expression"]) if row.get("expression") else None,
                attributes=_attributes(table, number, row, names),
                age=_number(table, number, row.get("age")),
                points=None if places is None else places * np.array([width, height]),
                mask=None if mask is None else partial(_mask, mask, len(classes)),
                identity=row.get("person") or None,
                yaw=_number(table, number, row.get("yaw")),
            )
        )
    masked = all(record.mask is not None for record in records)
    return FaceSet(
        "csv", folder, tuple(records), CROP, tuple(expressions), tuple(names), scheme, classes if masked else ()
    )


def _rows(table: Path) -> list[tuple[int, dict[str, str]]]:
    try:
        with table.open(newline="", encoding="utf-8") as stream:
            reader = csv.DictReader(stream)
            for column in ("file", "split"):
                if column not in (reader.fieldnames or ()):
                    raise bad_row(table, 1, f"it has no column {column!r}")
            found = list(enumerate(reader, 2))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{table} cannot be read: {error}") from None
    for number, row in found:
        if None in row or None in row.values():
            raise bad_row(table, number, "it has more or fewer values than the first line")
        if row["split"] not in SPLITS:
            raise bad_row(table, number, f"split {row['split']!r} is not one of {', '.join(SPLITS)}")
    return found


def _points(path: Path) -> tuple[dict[str, NDArray[np.float64]], str]:
    if not exists(path):
        return {}, ""
    try:
        with np.load(path, allow_pickle=False) as store:
            files, points = store["files"], store["points"].astype(np.float64)
    except (OSError, ValueError, KeyError) as error:
        raise DataError(f"{path} cannot be read: {error}") from None
    if points.ndim != 3 or points.shape[::2] != (len(files), 2) or points.shape[1] not in BY_COUNT:
        known = ", ".join(map(str, sorted(BY_COUNT)))
        raise DataError(f"{path}: points is {points.shape}, not ({len(files)}, P, 2) with P one of {known}")
    return {str(name): points[i] for i, name in enumerate(files)}, BY_COUNT[points.shape[1]]


def _classes(folder: Path) -> tuple[str, ...]:
    path = folder / "masks.json"
    if not exists(path):
        return CLASSES
    try:
        return tuple(str(name) for name in json.loads(raw_text(path))["classes"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path} cannot be read: {error}") from None


def _mask(path: Path, classes: int) -> NDArray[np.uint8]:
    return mask_file(path, np.where(np.arange(256) < classes, np.arange(256), 255).astype(np.uint8))


def _attributes(table: Path, number: int, row: dict[str, str], names: list[str]) -> tuple[int, ...] | None:
    if not names:
        return None
    values = []
    for name in names:
        text = row["gender"] if name == "male" and "gender" in row else row[f"attr_{name}"]
        known = {"m": 1, "f": 0, "1": 1, "0": 0, "": -1}
        if text not in known:
            raise bad_row(table, number, f"{name} is {text!r}, not 1, 0 or nothing (gender: m, f or nothing)")
        values.append(known[text])
    return tuple(values)


def _number(table: Path, number: int, text: str | None) -> float | None:
    if not text:
        return None
    try:
        return float(text)
    except ValueError:
        raise bad_row(table, number, f"{text!r} is not a number") from None


def _size(path: Path) -> tuple[int, int]:
    """Width and height of the upright photo."""
    try:
        head = probe(raw_bytes(path))
    except (OSError, BadImage) as error:
        raise DataError(f"photo {path} cannot be read: {error}") from None
    return head.width, head.height
