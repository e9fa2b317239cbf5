"""Shards of a folder of photos, found again by the content of the photos: what `data.photos` stands for.

    ROOT/NAME-DIGEST/     shards of the photos whose names and bytes have this digest, prepared in this way
        seen.json         in ROOT: signatures of folders (names, sizes, times) and the digests they had

A folder that was seen before is not read again. One that was only copied or touched has the same digest, and so the
same shards.
"""

import hashlib
import json
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path

from fra_dist import files
from fra_dist.data.making.photo_sources import Photos, open_photo_source
from fra_dist.data.making.shard_making import ShardOptions, make_shards
from fra_dist.data.making.workers import Progress
from fra_dist.data.shards.manifest import MANIFEST, Manifest, load_manifest
from fra_dist.errors import DataError
from fra_dist.files import open_stream

SEEN = "seen.json"
_MOST_SEEN = 200
_THREADS = 8
_LETTERS = 16
"""Hexadecimal digits of a digest in the name of a folder."""


def shards_of(photos: str | Path, root: Path, options: ShardOptions, progress: Progress | None = None) -> Manifest:
    """The shards of a folder (or tar) of photos below `root`: those that are there, or made now.

    Raises DataError when there are no photos, or `root` cannot be written; ConfigError as `make_shards` does.
    """
    folder = folder_for(photos, root, options)
    if files.exists(folder / MANIFEST):
        return load_manifest(folder)
    return make_shards(photos, folder, options, progress)


def folder_for(photos: str | Path, root: Path, options: ShardOptions) -> Path:
    """The folder below `root` that holds, or will hold, the shards of these photos. Raises DataError."""
    source = open_photo_source(photos, options.order, options.seed, options.photos)
    if not isinstance(source, Photos) or not len(source):
        raise DataError(f"data.photos={photos} holds no photos")
    signature, seen = _signature(source), _seen(root)
    digest = seen.get(signature)
    if digest is None:
        digest = seen[signature] = _content(source)
        _remember(root, seen)
    rules = json.dumps({**asdict(options.photos), "shard_samples": options.shard_samples}, sort_keys=True)
    name = hashlib.sha256(f"{digest}\n{rules}\n{options.order} {options.seed}".encode()).hexdigest()[:_LETTERS]
    return root / f"{Path(photos).resolve().name}-{name}"


def count_photos(photos: str | Path) -> int:
    """How many photos a folder or tar lists, without reading them. Raises DataError."""
    options = ShardOptions()
    return len(open_photo_source(photos, options.order, options.seed, options.photos))


def _paths(source: Photos) -> Iterator[tuple[str, Path]]:
    """(name, path) of every file that the photos are in: themselves, or the tars that hold them."""
    if source.kind == "folder":
        yield from ((photo.name, source.path / photo.name) for photo in source.photos)
        return
    for name in sorted({photo.tar for photo in source.photos}):
        yield name, source.path / name


def _signature(source: Photos) -> str:
    """A hash of where the photos are, their names, sizes and times of change."""
    found = hashlib.sha256(os.fsencode(source.path.resolve()))
    for name, path in _paths(source):
        try:
            about = path.stat()
        except OSError as error:
            raise files.failure(error, f"cannot read {path}", DataError) from None
        found.update(f"{about.st_size} {about.st_mtime_ns} ".encode() + os.fsencode(name) + b"\0")
    return found.hexdigest()


def _content(source: Photos) -> str:
    """A hash of the names and bytes of all photos."""
    found = hashlib.sha256()
    with ThreadPoolExecutor(_THREADS) as readers:
        for name, digest in readers.map(_digest_of, _paths(source)):
            found.update(os.fsencode(name) + b"\0" + digest)
    return found.hexdigest()


def _digest_of(item: tuple[str, Path]) -> tuple[str, bytes]:
    """(name, digest of the bytes). Raises DiskError where another attempt may succeed: the digest names the shards."""
    name, path = item

    def digest() -> bytes:
        with open_stream(path) as stream:
            return hashlib.file_digest(stream, "blake2b").digest()

    try:
        return name, files.patiently(digest)
    except OSError as error:
        if error.errno in files.PASSING:
            raise files.failure(error, f"cannot read {path}", DataError) from None
        return name, b"unreadable"  # it will be left out of the shards, and named there


def _seen(root: Path) -> dict[str, str]:
    found = files.read_object(root / SEEN) or {}
    return {key: value for key, value in found.items() if isinstance(value, str)}


def _remember(root: Path, seen: dict[str, str]) -> None:
    try:
        files.make_folder(root)
        files.write_object(root / SEEN, dict(list(seen.items())[-_MOST_SEEN:]), indent=1)
    except OSError as error:
        raise files.failure(error, f"cannot write into {root}, where shards of data.photos go", DataError) from None
