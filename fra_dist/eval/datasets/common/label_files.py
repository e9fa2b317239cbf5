"""Reading the files of data sets: every failure is one line that says what is missing, where, and what goes there."""

import io
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from fra_dist.errors import DataError
from fra_dist.files import exists, is_file, is_folder, open_stream, paths_in, raw_bytes


def need(folder: Path, relative: str, what: str) -> Path:
    """The path of a file or folder of a data set. Raises DataError that names it when it is not there."""
    if not is_folder(folder):
        hint = "unpack it first" if is_file(folder) else "no such folder"
        raise DataError(f"--data {folder} is not a folder of a data set: {hint}")
    path = folder / relative
    if not exists(path):
        raise DataError(f"{path} is missing: it should hold {what}; docs/evaluation.md says what goes where")
    return path


def need_one(folder: Path, relatives: Sequence[str], what: str) -> Path:
    """The first of several places in a data set where there is something, each the place of one way to lay it out.

    Raises DataError that names the first place, the official one, when there is nothing at any.
    """
    there = (folder / relative for relative in relatives if exists(folder / relative))
    return next(there, None) or need(folder, relatives[0], what)


def photos_of(labels: Path, pattern: str, images: Path) -> None:
    """Check that every label file STEM_kind.ext or STEM.ext has a photo STEM.jpg.

    Raises DataError that names one which has none: half of the set is there.
    """
    ending = pattern.removeprefix("*")
    photos = {path.stem for path in paths_in(images, "*.jpg")}
    lost = sorted(path.name for path in paths_in(labels, pattern) if path.name.removesuffix(ending) not in photos)
    if lost:
        raise DataError(
            f"{images / lost[0].removesuffix(ending)}.jpg is missing, but {lost[0]} is there ({len(lost)} such): "
            f"unpack {images} again"
        )


def rows(path: Path, skip: int = 0) -> Iterator[tuple[int, list[str]]]:
    """Line number, from 1, and words of each row of a text file, without its first `skip` lines and its empty lines.

    Words end at blanks, in a .csv at commas. Raises DataError when the file is missing or cannot be read.
    """
    try:
        text = path.read_text(encoding="utf-8", errors="strict")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path} cannot be read: {error}") from None
    comma = "," if path.suffix == ".csv" else None
    for number, line in enumerate(text.splitlines(), 1):
        if number > skip and line.strip():
            yield number, line.strip().split(comma)


def bad_row(path: Path, number: int, why: str) -> DataError:
    """The error that says what is wrong with one row of a file, ready to be raised."""
    return DataError(f"{path}, line {number}: {why}; is the file damaged or of another release?")


def numbers(path: Path, number: int, words: Sequence[str], count: int) -> NDArray[np.float64]:
    """The words of a row as `count` finite numbers. Raises DataError for anything else."""
    try:
        values = np.array(words, np.float64)
    except ValueError:
        raise bad_row(path, number, f"{' '.join(words)[:40]!r} are not numbers") from None
    if len(values) != count or not np.isfinite(values).all():
        raise bad_row(path, number, f"{len(values)} numbers instead of {count}")
    return values


def from_corner(points: NDArray[np.float64], first: int) -> NDArray[np.float64]:
    """Places in pixels from the photo's corner, from those of a file that counts the middle of the first pixel as
    `first`: 0 as OpenCV and most tools do, 1 as MATLAB does."""
    return points - first + 0.5


def mask_file(path: Path, table: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """A one-channel picture of class numbers, translated by `table` (256 entries).

    Raises DataError if it cannot be read.
    """
    try:
        return table[read_mask(raw_bytes(path))]
    except (OSError, ValueError, SyntaxError) as error:
        raise DataError(f"mask {path} cannot be read: {error}") from None


def read_mask(data: bytes) -> NDArray[np.uint8]:
    """(h, w) class numbers of an encoded PNG of one byte a pixel. Raises ValueError, OSError or SyntaxError."""
    with Image.open(io.BytesIO(data), formats=("PNG",)) as picture:
        if picture.mode not in ("L", "P"):
            raise ValueError(f"its mask has mode {picture.mode}, not one byte a pixel")
        return np.asarray(picture)


def translation(pairs: dict[int, int], rest: int = 255) -> NDArray[np.uint8]:
    """A table (256,) of class numbers for `mask_file`: those of `pairs`, and `rest` for all other values."""
    table = np.full(256, rest, np.uint8)
    for value, meaning in pairs.items():
        table[value] = meaning
    return table


def matlab(path: Path) -> dict[str, Any]:
    """The variables of a MATLAB file of any version; cells of text come as lists of str.

    Raises DataError when it cannot be read.
    """
    try:
        with open_stream(path) as stream:
            modern = b"MATLAB 7.3" in stream.read(32)
        return _hdf5(path) if modern else _classic(path)
    except (OSError, ValueError, KeyError, TypeError, NotImplementedError) as error:
        raise DataError(f"{path} cannot be read as a MATLAB file: {error or type(error).__name__}") from None


def _classic(path: Path) -> dict[str, Any]:
    from scipy.io import loadmat
    from scipy.io.matlab import MatReadError

    try:
        found = loadmat(path)
    except MatReadError as error:
        raise ValueError(error) from None
    return {
        key: [_text(cell) for cell in value.ravel()] if value.dtype == object else value
        for key, value in found.items()
        if isinstance(value, np.ndarray)
    }


def _text(cell: Any) -> str:
    while isinstance(cell, np.ndarray) and cell.size:
        cell = cell.ravel()[0]
    return str(cell)


def _hdf5(path: Path) -> dict[str, Any]:
    try:
        import h5py
    except ImportError:
        raise DataError(f"{path} is a MATLAB 7.3 file: reading it needs h5py: pip install 'fra-dist[lfwa]'") from None
    found: dict[str, Any] = {}
    with h5py.File(path, "r") as store:
        for key, item in store.items():
            if not isinstance(item, h5py.Dataset):
                continue
            if item.dtype == object:
                found[key] = ["".join(map(chr, np.ravel(store[cell][()]))) for cell in np.ravel(item[()])]
            else:
                found[key] = np.asarray(item[()]).T
    return found
