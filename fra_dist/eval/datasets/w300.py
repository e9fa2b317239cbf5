"""Annotations of 300-W: 68 landmarks of the collections' own photos, each with a .pts file beside it.

afw/*.jpg + .pts, helen/trainset, lfpw/trainset                 train
helen/testset, lfpw/testset                                     test, common
ibug                                                            test, challenging
"""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fra_dist.errors import DataError
from fra_dist.eval.datasets.common.crop_rules import CropRule
from fra_dist.eval.datasets.common.label_files import bad_row, from_corner, need
from fra_dist.eval.datasets.common.labelled_face import FaceSet, Record
from fra_dist.files import exists, paths_in

CROP = CropRule("points", scale=1.3, down=-0.05)
FOLDERS = (
    ("afw", "train", ()),
    ("helen/trainset", "train", ()),
    ("lfpw/trainset", "train", ()),
    ("helen/testset", "test", ("common",)),
    ("lfpw/testset", "test", ("common",)),
    ("ibug", "test", ("challenging",)),
)  # fmt: skip
SUFFIXES = (".jpg", ".png", ".jpeg")


def read(folder: Path) -> FaceSet:
    """The faces of a 300-W folder.

    Raises DataError when a folder or a photo is missing or a .pts file cannot be read.
    """
    records = []
    for place, split, subsets in FOLDERS:
        files = paths_in(need(folder, place, "photos with a .pts file each"), "*.pts")
        if not files:
            raise DataError(f"{folder / place} holds no .pts file")
        bare = [
            p for p in sorted((folder / place).iterdir()) if p.suffix in SUFFIXES and p.with_suffix(".pts") not in files
        ]
        if bare:
            raise DataError(f"{bare[0].with_suffix('.pts')} is missing, but its photo is there: unpack {place} again")
        for file in files:
            photo = next((file.with_suffix(s) for s in SUFFIXES if exists(file.with_suffix(s))), None)
            if photo is None:
                raise DataError(f"{file} has no photo beside it: {file.stem}.jpg or .png is missing")
            points = from_corner(read_points(file), 1)
            records.append(Record(f"{place}/{photo.name}", split, photo, subsets=subsets, points=points))
    return FaceSet("300w", folder, tuple(records), CROP, scheme="ibug68")


def read_points(path: Path, count: int = 68) -> NDArray[np.float64]:
    """The points (count, 2) of a .pts file: `version`, `n_points`, then one pair per line between braces.

    Raises DataError when the file cannot be read or holds another number of points.
    """
    try:
        text = path.read_text(encoding="utf-8")
        inside = text[text.index("{") + 1 : text.rindex("}")]
        values = np.array(inside.split(), np.float64)
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path} cannot be read: {error}") from None
    except ValueError:
        raise bad_row(path, 1, "not a .pts file with numbers between braces") from None
    if len(values) != 2 * count or not np.isfinite(values).all():
        raise bad_row(path, 1, f"{len(values) / 2:g} points instead of {count}")
    return values.reshape(count, 2)
