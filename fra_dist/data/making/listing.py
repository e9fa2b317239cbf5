"""Lists a folder tree or tars: the photos by relative name, and what cannot be looked at."""

import os
import stat
from functools import partial
from pathlib import Path
from typing import NamedTuple

from fra_dist.data.shards import tars
from fra_dist.data.shards.samples import Skip
from fra_dist.errors import DataError
from fra_dist.files import failure, lasting_reason, paths_below, patiently

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
"""Files with one of these extensions, or with none, are taken for photos.

HEIC is among them so that such photos are named when they are left out.
"""


class ListedPhoto(NamedTuple):
    """One photo of a source as a listing names it: where its bytes lie, not the bytes themselves."""

    name: str
    """Name relative to the source."""
    size: int
    """Size in bytes."""
    offset: int = 0
    """Position of its first byte in the file that holds it; 0 in a folder of photos."""
    drop: tuple[int, ...] = ()
    """Positions within the photo of 4 bytes each that are not part of it; only RecordIO has such gaps."""
    tar: str = ""
    """In a folder of tars, the relative name of the tar that holds it; else empty."""


class Listing(NamedTuple):
    """The photos of a source, and what was passed over."""

    photos: list[ListedPhoto]
    """The photos, in the order of the source."""
    skipped: list[Skip]
    """Entries that look like photos but cannot be read."""
    ignored: int
    """Number of files that are hidden or, by their extension, no photos."""


def list_folder(root: Path) -> Listing:
    """Every photo below a folder, sorted by name. Links are followed, and each folder is visited once.

    Raises DataError when the folder itself cannot be read.
    """
    photos: list[ListedPhoto] = []
    skipped: list[Skip] = []
    ignored = 0
    waiting, seen = [""], set[tuple[int, int]]()
    while waiting:
        folder = waiting.pop()
        try:
            entries = patiently(partial(_scan, root / folder, seen))
        except OSError as error:
            what = f"cannot read folder {root / folder}"
            if not folder:
                raise failure(error, what, DataError) from None
            skipped.append(Skip(folder + "/", f"cannot read the folder: {lasting_reason(error, what)}"))
            continue
        for entry in entries:
            name = f"{folder}/{entry.name}" if folder else entry.name
            kind = _kind(entry, name)
            if isinstance(kind, Skip):
                skipped.append(kind)
            elif kind and not _hidden(entry.name):
                waiting.append(name)
            elif not is_photo_name(entry.name):
                ignored += 1
            elif isinstance(item := _look(entry, name), ListedPhoto):
                photos.append(item)
            else:
                skipped.append(item)
    return Listing(sorted(photos), sorted(skipped), ignored)


def _scan(folder: Path, seen: set[tuple[int, int]]) -> "list[os.DirEntry[str]]":
    """Entries in reverse order of names, so that folders come off the stack in order; none for a folder seen before."""
    here = folder.stat()
    if (here.st_dev, here.st_ino) in seen:  # a link back up, or a second way to the same folder
        return []
    with os.scandir(folder) as entries:
        found = sorted(entries, key=lambda entry: entry.name, reverse=True)
    seen.add((here.st_dev, here.st_ino))  # not before: after an error the folder is read again
    return found


def list_tar(path: Path) -> Listing:
    """Every photo in a tar, in the tar's order; of two members with one name the later counts. Raises DataError."""
    photos: dict[str, ListedPhoto] = {}
    skipped: list[Skip] = []
    ignored = 0
    if (found := tars.stands_in(path)) is not None:
        return Listing([], [Skip(path.name, found)], 0)
    for item in tars.scan(path):
        if isinstance(item, tars.TarDamage):
            skipped.append(Skip(path.name, str(item)))
            continue
        name = item.name.removeprefix("./").lstrip("/")
        if isinstance(item, tars.UnreadableMember):
            if is_photo_name(name.rpartition("/")[2]):
                skipped.append(Skip(name, item.reason))
            else:
                ignored += 1
        elif any(_hidden(part) for part in name.split("/")) or not is_photo_name(name.rpartition("/")[2]):
            ignored += 1
        else:
            photos.pop(name, None)
            photos[name] = ListedPhoto(name, item.size, item.offset)
    return Listing(list(photos.values()), skipped, ignored)


def list_tars(root: Path) -> Listing:
    """Every photo in every tar of a folder and below; a photo's name begins with its tar's name without extension.

    Raises DataError when a tar cannot be read.
    """
    photos, skipped, ignored = list[ListedPhoto](), list[Skip](), 0
    for path in (path for path in paths_below(root, "*.tar") if not _hidden(path.name)):
        name = path.relative_to(root).as_posix()
        one = list_tar(path)
        photos += [found._replace(name=f"{name[:-4]}/{found.name}", tar=name) for found in one.photos]
        skipped += [Skip(f"{name[: -len(path.name)]}{skip.name}", skip.reason) for skip in one.skipped]
        ignored += one.ignored
    return Listing(photos, skipped, ignored)


def is_photo_name(base: str) -> bool:
    """Whether a file name (without folder) is that of a photo: not hidden, and with a suitable extension or none."""
    _, dot, extension = base.rpartition(".")
    return not _hidden(base) and (not dot or extension.lower() in PHOTO_EXTENSIONS)


def _hidden(part: str) -> bool:
    return (part.startswith(".") and part not in (".", "..")) or part == "__MACOSX"


def _kind(entry: "os.DirEntry[str]", name: str) -> bool | Skip:
    """Whether an entry is a folder, or why that cannot be told. Raises DiskError when another attempt may tell."""
    try:
        return patiently(entry.is_dir)
    except OSError as error:
        return Skip(name, f"cannot read: {lasting_reason(error, f'cannot look at {entry.path}')}")


def _look(entry: "os.DirEntry[str]", name: str) -> ListedPhoto | Skip:
    try:
        status = patiently(entry.stat)
    except OSError as error:
        return Skip(name, f"cannot read: {lasting_reason(error, f'cannot look at {entry.path}')}")
    if not stat.S_ISREG(status.st_mode):  # a pipe or a device would block the reader
        return Skip(name, "not a regular file")
    return ListedPhoto(name, status.st_size)
