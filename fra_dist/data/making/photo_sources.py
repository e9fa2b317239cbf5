"""Sources of photos for shards: a folder tree, tars of photos, RecordIO, parquet, or the renderer of synthetic faces.

A source is a fixed sequence of entries. `task(places)` gives a small value that any process can call to read, check and
encode those entries, so that the result does not depend on which process does the work.
"""

import contextlib
import hashlib
import os
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal, Protocol, cast

import numpy as np

from fra_dist.data.decoding.images import BadImage
from fra_dist.data.making.cleaning import PhotoRules
from fra_dist.data.making.cleaning_tasks import HashTask, PhotoTask, Read, read_photo
from fra_dist.data.making.faces.annotations import Annotations
from fra_dist.data.making.listing import ListedPhoto, Listing, list_folder, list_tar, list_tars
from fra_dist.data.making.parquet import SUFFIX, list_parquet, order_by_groups
from fra_dist.data.making.recordio import MAGIC, list_records
from fra_dist.data.making.sample_keys import make_keys
from fra_dist.data.making.synthetic_samples import FaceTask
from fra_dist.data.order.counter_random import key, permute
from fra_dist.data.shards.samples import Encoded, Skip
from fra_dist.errors import DataError
from fra_dist.files import exists, failure, is_file, is_folder, open_stream, paths_below
from fra_dist.stand_ins import stand_in
from fra_dist.synthetic import Framing

CHUNK = 32
"""Entries of one task."""

Order = Literal["shuffled", "source"]
"""Order of the entries: shuffled by a seed, or as in the source."""
Task = Callable[[], list[Encoded | Skip]]
"""Called without arguments in any process; gives for each of its entries a sample, or why it was left out."""

_ORDER = 17  # domain of the hash that orders photos
_SYNTHETIC = re.compile(r"synthetic:(\d{1,9})(?:@(\d{1,5}))?(?:/(\d{1,9}))?(?::(face|wild))?")
_SEEDS_APART = 1_000_000_000


class PhotoSource(Protocol):
    """A folder, tar or other collection of photos that shards are made of: a sequence of len(source) entries."""

    description: dict[str, Any]
    """What the manifest says of the source; the same entries and options give the same description on any machine."""
    skipped: list[Skip]
    """Entries that could not even be listed."""

    def __len__(self) -> int: ...

    def task(self, places: range) -> Task:
        """The task that makes samples of the entries at these places."""
        ...


class Photos:
    """Photos in a folder, in a single file that holds many (a tar, RecordIO), or in a folder of tars."""

    def __init__(self, path: Path, kind: str, listing: Listing, order: Order, seed: int, rules: PhotoRules) -> None:
        self.path, self.kind, self.rules = path, kind, rules
        self.skipped = listing.skipped
        self.photos: Sequence[ListedPhoto] = listing.photos
        self.keys = make_keys([photo.name for photo in listing.photos])
        self.faces: Annotations | None = None
        """Where the faces are, if files say so; `selection.select` sets it."""
        self.left_out: dict[str, str] = {}
        """Why photos are left out, by relative name."""
        places = np.arange(len(self.photos))
        self.order = places
        if order == "shuffled" and places.size:
            shuffle = key(_ORDER, seed)
            grouped = kind == "parquet"
            self.order = (
                order_by_groups(path, self.photos, shuffle) if grouped else permute(places, len(places), shuffle)
            )
        self.description = {
            "kind": kind,
            "name": path.resolve().name,
            "entries": len(self.photos),
            "ignored": listing.ignored,
            "fingerprint": _fingerprint(self.photos),
            "order": order,
            "seed": seed,
        }

    def __len__(self) -> int:
        return len(self.photos)

    def task(self, places: range) -> PhotoTask:
        """The task that reads and cleans the photos at these places."""
        return PhotoTask(self._reads(places), self.rules)

    def hash_task(self, places: range) -> HashTask:
        """The task that reads and hashes the photos at these places."""
        return HashTask(self._reads(places), self.rules)

    def name(self, place: int) -> str:
        """Name of the photo at a place, relative to the source."""
        return self.photos[int(self.order[place])].name

    def _reads(self, places: range) -> tuple[Read, ...]:
        reads = []
        for number in self.order[places.start : places.stop].tolist():
            photo = self.photos[number]
            face = None if self.faces is None else self.faces.find(photo.name)
            read = self.read(number)._replace(face=face, reason=self.left_out.get(photo.name, ""))
            reads.append(read)
        return tuple(reads)

    def read(self, number: int) -> Read:
        """Where the bytes of photo `number` of the listing are."""
        return _read_of(self.path, self.kind, self.photos[number], self.keys[number])


class SyntheticFaces:
    """Rendered faces of the seeds `seed * 10^9`, `seed * 10^9 + 1`, ...: sets of other seeds share no picture."""

    def __init__(
        self, count: int, size: int, people: int | None, seed: int, quality: int, framing: Framing = "portrait"
    ) -> None:
        self.count, self.size, self.people, self.quality = count, size, people, quality
        self.framing: Framing = framing
        self.first = seed * _SEEDS_APART
        self.skipped: list[Skip] = []
        self.description = {
            "kind": "synthetic",
            "name": "synthetic",
            "entries": count,
            "size": size,
            "people": people,
            "first_seed": self.first,
            **({} if self.framing == "portrait" else {"framing": self.framing}),
        }

    def __len__(self) -> int:
        return self.count

    def task(self, places: range) -> FaceTask:
        """The task that renders the faces at these places."""
        seeds = tuple(range(self.first + places.start, self.first + places.stop))
        return FaceTask(seeds, self.size, self.people, self.quality, self.framing)


def open_photo_source(spec: str | Path, order: Order, seed: int, rules: PhotoRules) -> PhotoSource:
    """Open the source that a user names: a folder of photos, of tars or of parquet, one of these files, RecordIO, or
    `synthetic:N[@SIZE][/PEOPLE][:face|:wild]`, which show faces instead of head and shoulders, `:wild` in all kinds of
    poses, light and quality.

    Raises DataError when it does not exist, cannot be read or is of another kind.
    """
    if _is_synthetic(spec):
        return _synthetic(str(spec), seed, rules)
    refuse_missing_source(spec)
    path = Path(spec)
    kind, listing = _list(path)
    return Photos(path, kind, listing, order, seed, rules)


def refuse_missing_source(spec: str | Path) -> None:
    """Raise the DataError of `open_photo_source` when the source does not exist; nothing is read."""
    if not _is_synthetic(spec) and not exists(Path(spec)):
        raise DataError(
            f"source {Path(spec)} does not exist: name a folder of photos, a tar of photos or synthetic:N@SIZE"
        )


def _is_synthetic(spec: str | Path) -> bool:
    return str(spec).startswith("synthetic:")


def _synthetic(spec: str, seed: int, rules: PhotoRules) -> SyntheticFaces:
    match = _SYNTHETIC.fullmatch(spec)
    if match is None or int(match[1]) == 0:
        raise DataError(
            f"source {spec!r}: write synthetic:N, synthetic:N@SIZE or synthetic:N@SIZE/PEOPLE, each with :face at "
            "its end for faces without shoulders, or :wild for such of all kinds, for example synthetic:2000@112/400"
        )
    from fra_dist.synthetic import MAX_SIZE, MIN_SIZE

    size = int(match[2] or 112)
    if not MIN_SIZE <= size <= MAX_SIZE:
        raise DataError(f"source {spec!r}: the size of synthetic faces is {MIN_SIZE} to {MAX_SIZE} pixels")
    if match[3] is not None and int(match[3]) == 0:
        raise DataError(f"source {spec!r}: at least one person is needed")
    if rules.size is not None:
        raise DataError(
            f"source {spec!r} is rendered at {size} pixels: write synthetic:{match[1]}@SIZE instead of --size"
        )
    people = int(match[3]) if match[3] else None
    framing = cast(Framing, match[4] or "portrait")  # one that the pattern lets through
    return SyntheticFaces(int(match[1]), size, people, seed, rules.quality, framing)


def _list(path: Path) -> tuple[str, Listing]:
    """(kind, listing) of a folder, or of a file of many photos."""
    if is_folder(path):
        listing = list_folder(path)
        if not listing.photos and ((tars := list_tars(path)).photos or tars.skipped):
            return "tars of photos", tars._replace(skipped=[*listing.skipped, *tars.skipped])
        if not listing.photos and (tables := paths_below(path, f"*{SUFFIX}")):
            return "parquet", list_parquet(path, tables)
        return "folder", listing
    if not is_file(path):
        raise DataError(f"source {path} is neither a folder nor a file")
    try:
        with open_stream(path) as file:
            head = file.read(512)
    except OSError as error:
        raise failure(error, f"cannot read source {path}", DataError) from None
    if (found := stand_in(head)) is not None:
        raise DataError(f"source {path} is {found}")
    for mark, command in (
        (b"\x1f\x8b", "gunzip"),
        (b"BZh", "bunzip2"),
        (b"\xfd7zXZ", "unxz"),
        (b"PK\x03\x04", "unzip"),
    ):
        if head.startswith(mark):
            raise DataError(f"source {path} is compressed, so its photos cannot be found by place: {command} it first")
    if path.suffix == SUFFIX:
        return "parquet", list_parquet(path, [path])
    if head.startswith(MAGIC) or path.suffix == ".rec":
        return "recordio", list_records(path)
    listing = list_tar(path)
    if not listing.photos and listing.skipped and listing.skipped[0].reason.startswith("damaged at byte 0:"):
        raise DataError(f"source {path} is not a tar: name a folder of photos, a tar of photos or synthetic:N@SIZE")
    return "tar", listing


def photo_bytes(spec: str | Path, names: Sequence[str]) -> dict[str, bytes]:
    """The bytes of some photos of a source by relative name, unchanged; those that cannot be read are left out."""
    path, wanted, found = Path(spec), set(names), dict[str, bytes]()
    if not wanted:  # also of a source without files, such as synthetic photos
        return found
    kind, listing = _list(path)
    for read in (_read_of(path, kind, photo, photo.name) for photo in listing.photos if photo.name in wanted):
        with contextlib.suppress(OSError, BadImage):
            found[read.name] = read_photo(read)
    return found


def _read_of(path: Path, kind: str, photo: ListedPhoto, key: str) -> Read:
    file, byte = (path / photo.name, -1) if kind == "folder" else (path / photo.tar, photo.offset)
    return Read(key, photo.name, os.fspath(file), byte, photo.size, drop=photo.drop)


def _fingerprint(photos: Sequence[ListedPhoto]) -> str:
    """A hash of names and sizes, which changes when a photo is added, removed or changes its size."""
    digest = hashlib.sha256()
    for photo in photos:
        digest.update(photo.name.encode("utf-8", "surrogateescape") + b"\0%d\0" % photo.size)
    return digest.hexdigest()[:32]
