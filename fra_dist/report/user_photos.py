"""Photos as users name them: files, folders and patterns; odd and broken ones are reported, not fatal."""

import errno
import glob
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from fra_dist.data.decoding.images import BadImage
from fra_dist.data.making.cleaning import decode_verified
from fra_dist.files import ABSENT, lasting_reason, raw_bytes

if TYPE_CHECKING:  # `overlay` imports torch, and names are checked before
    from fra_dist.report.overlay import Pixels

SUFFIXES = frozenset(".jpg .jpeg .jpe .jfif .png .webp .bmp .gif .tif .tiff .ppm .pgm .avif .mpo".split())  # noqa: SIM905
_NO_FILE = "not a file"
_REASONS = {errno.ENOENT: "no such file", errno.EISDIR: _NO_FILE, errno.EINVAL: _NO_FILE, errno.ENXIO: _NO_FILE}


@dataclass(frozen=True)
class Photo:
    """A user's photo, cropped to its middle square, and where that lies in the photo."""

    path: Path
    """Path of the file."""
    square: "Pixels"
    """(s, s, 3) pixels of the square, not scaled."""
    size: tuple[int, int]
    """Width and height of the upright photo in pixels."""
    box: tuple[int, int, int, int]
    """Where the square lies in the upright photo: x0, y0, x1, y1 in pixels."""


@dataclass(frozen=True)
class Skipped:
    """A photo that the user named but that could not be used, and why."""

    path: str
    """The name as the user gave it, or the path of the file."""
    reason: str
    """Why it was skipped."""

    def __str__(self) -> str:
        return f"skipped {self.path}: {self.reason}"


def find_photos(words: Sequence[str]) -> tuple[list[Path], list[Skipped]]:
    """The files behind names, each once, in the order named, and the names that lead to none.

    A folder stands for the files in it, at any depth, that have the suffix of a photo or no suffix (hidden ones left
    out), sorted by path. A name that does not exist is tried as a pattern (`*`, `?`, `[...]`, `**`).
    """
    found: dict[Path, None] = {}
    skipped: list[Skipped] = []
    for word in map(os.path.expanduser, words):
        matches = _matches(word)
        if not matches:
            skipped.append(Skipped(word, "no such file or folder"))
        for match in matches:
            if not os.path.isdir(match):
                found[Path(match)] = None
                continue
            inside = list(_walk(match, skipped))
            if not inside:
                skipped.append(Skipped(match, "no photos in this folder"))
            found.update(dict.fromkeys(inside))
    return list(found), [Skipped(printable(s.path), s.reason) for s in skipped]


def lead_nowhere(words: Sequence[str]) -> bool:
    """Whether none of the names leads to a file or a folder. What a folder holds is not looked at."""
    return not any(_matches(word) for word in words)


def _matches(word: str) -> list[str]:
    """The paths that a name stands for: itself, unless there is surely nothing of that name and it may be a pattern."""
    try:
        os.lstat(word)
    except ValueError:
        return []
    except OSError as error:
        if error.errno in ABSENT or error.errno == errno.ENAMETOOLONG:
            return sorted(glob.glob(word, recursive=True))
    return [word]


def read_square(path: Path) -> Photo | Skipped:
    """Decode a photo upright and cut its middle square, without scaling; Skipped when that is not possible.

    Raises DiskError when another attempt may read it.
    """
    name = printable(path)
    try:
        pixels = decode_verified(raw_bytes(path))
    except OSError as error:
        return Skipped(name, _REASONS.get(error.errno or 0) or lasting_reason(error, f"cannot read {name}"))
    except BadImage as error:
        return Skipped(name, str(error))
    if pixels.ndim == 2:
        pixels = np.repeat(pixels[..., None], 3, axis=2)
    height, width = pixels.shape[:2]
    side = min(height, width)
    left, top = (width - side) // 2, (height - side) // 2
    square = np.ascontiguousarray(pixels[top : top + side, left : left + side])
    return Photo(path, square, (width, height), (left, top, left + side, top + side))


def scale(square: "Pixels", size: int) -> "Pixels":
    """The square scaled: (s, s, 3) -> (size, size, 3), bilinear with averaging as for training views."""
    return np.asarray(Image.fromarray(square).resize((size, size), Image.Resampling.BILINEAR))


def printable(path: str | Path) -> str:
    """The name as any terminal and any file can hold it: undecodable bytes and line breaks become `?`."""
    text = os.fsencode(path).decode("utf-8", "replace").replace("�", "?")
    return "".join(letter if letter.isprintable() else "?" for letter in text)


def _walk(folder: str, skipped: list[Skipped]) -> Iterator[Path]:
    def refuse(error: OSError) -> None:
        skipped.append(Skipped(str(error.filename), lasting_reason(error, f"cannot read the folder {error.filename}")))

    for root, folders, files in os.walk(folder, onerror=refuse):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(files):
            suffix = os.path.splitext(name)[1].lower()
            if not name.startswith(".") and (not suffix or suffix in SUFFIXES):
                yield Path(root, name)
