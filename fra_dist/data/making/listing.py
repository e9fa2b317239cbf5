"""What a folder tree or a tar holds: the photos by relative name, and what cannot be looked at."""

import os
import stat
from pathlib import Path
from typing import NamedTuple

from fra_dist.data.shards import tars
from fra_dist.data.shards.samples import Skip
from fra_dist.errors import DataError

PHOTO_EXTENSIONS = frozenset(
    [
        "jpg",
        "jpeg",
        "jpe",
        "jfif",
        "mpo",
        "png",
        "webp",
        "avif",
        "bmp",
        "gif",
        "tif",
        "tiff",
        "ppm",
        "pgm",
        "pnm",
        "heic",
        "heif",
    ]
)
"""Files with one of these, or with none, are taken for photos. HEIC is among them to be named when it is left out."""


class Found(NamedTuple):
    """A photo in a listing: relative name, size in bytes, and its byte in the file of many (0 in a folder).

    drop: places in it of 4 bytes that are not part of it, which only RecordIO has. tar: of a folder of tars, the one.
    """

    name: str
    size: int
    offset: int = 0
    drop: tuple[int, ...] = ()
    tar: str = ""


class Listing(NamedTuple):
    photos: list[Found]
    skipped: list[Skip]
    ignored: int
    """Files that are no photos by their extension, and hidden ones."""


def list_folder(root: Path) -> Listing:
    """Every photo below a folder, sorted by name. Links are followed, each folder is visited once.

    Raises DataError when the folder itself cannot be read.
    """
    photos: list[Found] = []
    skipped: list[Skip] = []
    ignored = 0
    waiting, seen = [""], set[tuple[int, int]]()
    while waiting:
        folder = waiting.pop()
        try:
            entries = _scan(root / folder, seen)
        except OSError as error:
            if not folder:
                raise DataError(f"cannot read folder {root}: {error.strerror}") from None
            skipped.append(Skip(folder + "/", f"cannot read the folder: {error.strerror}"))
            continue
        for entry in entries:
            name = f"{folder}/{entry.name}" if folder else entry.name
            if _is_folder(entry) and not _hidden(entry.name):
                waiting.append(name)
            elif not is_photo_name(entry.name):
                ignored += 1
            elif isinstance(item := _look(entry, name), Found):
                photos.append(item)
            else:
                skipped.append(item)
    return Listing(sorted(photos), sorted(skipped), ignored)


def _scan(folder: Path, seen: set[tuple[int, int]]) -> "list[os.DirEntry[str]]":
    """Entries in reverse order of names, so that folders come off the stack in order; none for a folder seen before."""
    here = folder.stat()
    if (here.st_dev, here.st_ino) in seen:  # a link back up, or a second way to the same folder
        return []
    seen.add((here.st_dev, here.st_ino))
    with os.scandir(folder) as entries:
        return sorted(entries, key=lambda entry: entry.name, reverse=True)


def list_tar(path: Path) -> Listing:
    """Every photo in a tar, in its order; of two members with one name the later counts. Raises DataError."""
    photos: dict[str, Found] = {}
    skipped: list[Skip] = []
    ignored = 0
    if (found := tars.stands_in(path)) is not None:
        return Listing([], [Skip(path.name, found)], 0)
    for item in tars.scan(path):
        if isinstance(item, tars.Damage):
            skipped.append(Skip(path.name, str(item)))
            continue
        name = item.name.removeprefix("./").lstrip("/")
        if isinstance(item, tars.Unreadable):
            if is_photo_name(name.rpartition("/")[2]):
                skipped.append(Skip(name, item.reason))
            else:
                ignored += 1
        elif any(_hidden(part) for part in name.split("/")) or not is_photo_name(name.rpartition("/")[2]):
            ignored += 1
        else:
            photos.pop(name, None)
            photos[name] = Found(name, item.size, item.offset)
    return Listing(list(photos.values()), skipped, ignored)


def list_tars(root: Path) -> Listing:
    """Every photo in every tar of a folder and below; names begin with that of the tar without its extension."""
    photos, skipped, ignored = list[Found](), list[Skip](), 0
    for path in sorted(path for path in root.rglob("*.tar") if path.is_file() and not _hidden(path.name)):
        name = path.relative_to(root).as_posix()
        one = list_tar(path)
        photos += [found._replace(name=f"{name[:-4]}/{found.name}", tar=name) for found in one.photos]
        skipped += [Skip(f"{name[: -len(path.name)]}{skip.name}", skip.reason) for skip in one.skipped]
        ignored += one.ignored
    return Listing(photos, skipped, ignored)


def is_photo_name(base: str) -> bool:
    """By its extension, and not hidden."""
    _, dot, extension = base.rpartition(".")
    return not _hidden(base) and (not dot or extension.lower() in PHOTO_EXTENSIONS)


def _hidden(part: str) -> bool:
    return part.startswith(".") or part == "__MACOSX"


def _is_folder(entry: "os.DirEntry[str]") -> bool:
    try:
        return entry.is_dir()
    except OSError:
        return False


def _look(entry: "os.DirEntry[str]", name: str) -> Found | Skip:
    try:
        status = entry.stat()
    except OSError as error:
        return Skip(name, f"cannot read: {error.strerror}")
    if not stat.S_ISREG(status.st_mode):  # a pipe or a device would block the reader
        return Skip(name, "not a regular file")
    return Found(name, status.st_size)
