"""Boxes and five points of faces, read from the files that come with face data sets.

| file | columns | a photo's name |
    |---|---|---|
| VGGFace2 boxes, `loose_bb_train.csv` | `NAME_ID,X,Y,W,H` | `n000002/0001_01`, quoted, no extension |
| VGGFace2 points, `loose_landmark_train.csv` | `NAME_ID,P1X,P1Y,...,P5Y` | the same |
| CelebA boxes, `list_bbox_celeba.txt` | a count, then `image_id x_1 y_1 width height` | `000001.jpg` |
| CelebA points, `list_landmarks_celeba.txt` | a count, then `lefteye_x lefteye_y ... rightmouth_y` | the same |
| any other | a header with `name`, and `x,y,w,h` or `p1x,p1y,...,p5y`, or both | the relative path |

Points are the left and right eye (as seen in the picture), nose, left and right corner of the mouth. These files
count the middle of the upper left pixel of the upright photo as 0, 0, as OpenCV does; `Face` counts from its corner,
so half a pixel is added. A box begins at the corner of its first pixel in both. A name is looked up with and without
extension, and from its end: `train/n000002/0001_01.jpg` finds `n000002/0001_01`.
"""

import csv
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from fra_dist.errors import DataError

Box = tuple[float, float, float, float]
"""x and y of the upper left corner, width, height, in pixels."""
Points = tuple[float, ...]
"""x and y of five points, ten numbers, in pixels from the photo's corner: the middle of its first pixel is ½, ½."""


class Face(NamedTuple):
    """The face in a photo as a detector or an annotation file gives it: box, five points, confidence."""

    box: Box | None = None
    """Box around the face, if known."""
    points: Points | None = None
    """Eyes, nose and corners of the mouth, if known."""
    score: float = 1.0
    """Confidence of the detector, 0 to 1; 1 for a face from a file."""


class Annotations:
    """The faces that files of boxes and points name, by photo.

    Raises DataError when a file cannot be read, is not of a known kind or names no face.
    """

    def __init__(self, boxes: Path | None = None, points: Path | None = None) -> None:
        self.faces: dict[str, Face] = {}
        for path in dict.fromkeys(path for path in (boxes, points) if path is not None):
            for name, box, found in _read(path):
                before = self.faces.get(name, Face())
                self.faces[name] = Face(box or before.box, found or before.points)
        if (boxes or points) and not self.faces:
            raise DataError(f"{boxes or points} names no face")

    def find(self, name: str) -> Face | None:
        """The face of a photo by the photo's relative path, or None."""
        stem = name.rpartition(".")[0] if "." in name.rpartition("/")[2] else name
        parts, stems = name.split("/"), stem.split("/")
        for at in range(len(parts)):  # the longest match counts
            found = self.faces.get("/".join(parts[at:])) or self.faces.get("/".join(stems[at:]))
            if found is not None:
                return found
        return None


def _read(path: Path) -> Iterator[tuple[str, Box | None, Points | None]]:
    try:
        with open(path, encoding="utf-8-sig", newline="") as file:
            yield from _parse(file, path)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"cannot read {path}: {getattr(error, 'strerror', None) or 'it is not text'}") from None


def _parse(file: Iterable[str], path: Path) -> Iterator[tuple[str, Box | None, Points | None]]:
    lines = (line for line in file if line.strip())  # millions of them: never all at once
    first = next(lines, "")
    if first.strip().isdecimal():  # CelebA begins with the number of rows
        first = next(lines, "")
    if not first:
        raise DataError(f"{path} is empty")
    spaced = "," not in first
    header = [word.strip().lower() for word in (first.split() if spaced else next(csv.reader([first])))]
    columns = _columns(header, path)
    for number, row in enumerate((line.split() for line in lines) if spaced else csv.reader(lines), start=2):
        if len(row) == len(header) + 1 == 11:  # CelebA's points have no name in the header
            values = {"name": row[0], **dict(zip(header, row[1:], strict=True))}
        elif len(row) == len(header):
            values = dict(zip(header, row, strict=True))
        else:
            raise DataError(f"{path}, row {number}: {len(row)} columns, not the {len(header)} of its first line")
        try:
            box = tuple(_finite(values[c]) for c in columns.box) if columns.box else None
            points = tuple(_finite(values[c]) + 0.5 for c in columns.points) if columns.points else None
        except ValueError:
            raise DataError(f"{path}, row {number}: a coordinate is not a number") from None
        yield values[columns.name].strip().strip('"'), box, points  # type: ignore[misc]


def _finite(text: str) -> float:
    value = float(text)
    if not abs(value) < 1e6:
        raise ValueError
    return value


class _Columns(NamedTuple):
    name: str
    box: tuple[str, ...] | None
    points: tuple[str, ...] | None


_NAMES = ("name_id", "image_id", "name", "file", "filename", "path")
_BOXES = (("x", "y", "w", "h"), ("x_1", "y_1", "width", "height"), ("x", "y", "width", "height"))
_CELEBA = ("lefteye", "righteye", "nose", "leftmouth", "rightmouth")
_POINTS = (
    tuple(f"p{n}{axis}" for n in range(1, 6) for axis in "xy"),
    tuple(f"{part}_{axis}" for part in _CELEBA for axis in "xy"),
)


def _columns(header: list[str], path: Path) -> _Columns:
    box = next((names for names in _BOXES if set(names) <= set(header)), None)
    points = next((names for names in _POINTS if set(names) <= set(header)), None)
    name = next((word for word in _NAMES if word in header), None)
    if name is None and points is not None and header == list(points):
        name = "name"
    if name is None or (box is None and points is None):
        raise DataError(
            f"{path}: its first line is {','.join(header)[:80]!r}; it needs a column name (or NAME_ID, image_id) and "
            "x,y,w,h or p1x,p1y,...,p5y"
        )
    return _Columns(name, box, points)
