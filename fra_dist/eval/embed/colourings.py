"""What the points of a map of embeddings can be coloured by: labels of a table, labels of the photos, and clusters."""

import csv
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fra_dist.errors import DataError

UNKNOWN = ""
"""The label of a photo for which it is not known."""
KEYS = ("key", "file")
"""Names that the column of the photos may have in a table of labels."""
_FEWEST = 6
"""Photos below which clusters mean nothing."""

Colourings = dict[str, list[str]]
"""Name of a colouring -> the label of each photo, `UNKNOWN` where there is none."""


def labels_of_photos(labels: Sequence[Mapping[str, str]]) -> Colourings:
    """The labels that photos come with, as `PhotoList.labels` gives them, by the name of the label.

    A label that is the same for all photos, or different for each, is left out: neither colours anything.
    """
    found = {}
    for name in dict.fromkeys(name for one in labels for name in one):
        values = [one.get(name, UNKNOWN) for one in labels]
        if 1 < len(set(values)) < len(values):
            found[name] = values
    return found


def read_label_table(path: str | Path) -> dict[str, dict[str, str]]:
    """Read a table (CSV) of labels: the key of a photo -> its labels by the name of their column.

    The column `key`, or `file`, holds keys as in rows.csv: the path below the folder of photos. Raises DataError when
    the file cannot be read, or has no such column or no other one.
    """
    try:
        with Path(path).open(newline="", encoding="utf-8-sig") as stream:
            reader = csv.DictReader(stream)
            names = list(reader.fieldnames or ())
            rows = list(reader)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        reason = getattr(error, "strerror", None) or error
        raise DataError(f"the table of labels {path} cannot be read: {reason}") from None
    key = next((name for name in KEYS if name in names), None)
    if key is None or len(names) < 2:
        raise DataError(
            f"the table of labels {path} needs a first line with a column key (the path of a photo below its folder) "
            f"and at least one column of labels; it has {', '.join(names) or 'no columns'}"
        )
    return {
        row[key]: {name: (row[name] or UNKNOWN).strip() for name in names if name != key} for row in rows if row[key]
    }


def labels_of_table(table: Mapping[str, Mapping[str, str]], keys: Sequence[str], path: str | Path) -> Colourings:
    """The labels that a table has for the photos of these keys, by the name of the column.

    Raises DataError when it has none of them.
    """
    if not any(key in table for key in keys):
        of_table = next(iter(table), "none at all")
        raise DataError(f"no photo is in the table of labels {path}: it has {of_table}, the photos {keys[0]}")
    names = dict.fromkeys(name for row in table.values() for name in row)
    return {name: [table.get(key, {}).get(name, UNKNOWN) for key in keys] for name in names}


def clusters(features: NDArray[np.floating], count: int, seed: int = 0) -> list[str] | None:
    """The cluster of each row of `features` (n, C): k-means with `count` centres on directions about the mean.

    Clusters are named 1, 2, ... from the largest to the smallest. None when there are too few rows.
    """
    from sklearn.cluster import KMeans
    from sklearn.exceptions import ConvergenceWarning

    centres = min(count, len(features) // (_FEWEST // 2))
    if centres < 2:
        return None
    centred = np.asarray(features, np.float64) - np.mean(features, axis=0, dtype=np.float64)
    unit = centred / np.maximum(np.linalg.norm(centred, axis=1, keepdims=True), 1e-12)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # fewer different rows than centres: some stay empty
        found = KMeans(centres, n_init=4, random_state=seed).fit_predict(unit)
    ranks = np.argsort(np.argsort(-np.bincount(found, minlength=centres), kind="stable"), kind="stable")
    return [str(rank + 1) for rank in ranks[found].tolist()]
