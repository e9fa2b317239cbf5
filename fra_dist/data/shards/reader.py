"""Reads encoded photos by sample id.

`ShardReader` knows which shard holds a sample and where; a `ShardSource` fetches byte ranges of shards: `LocalSource`
from a folder, those of `remote_source` from a store.
"""

import os
import zlib
from collections import OrderedDict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from fra_dist.data.shards.index import Rows
from fra_dist.data.shards.manifest import Manifest
from fra_dist.data.shards.missing_files import check_shard_files
from fra_dist.data.shards.remote_source import RangeSource, cached_source
from fra_dist.data.stores.remote_folder import RemoteFolder
from fra_dist.errors import DataError
from fra_dist.files import ABSENT, failure, open_to_read, patiently

MAX_OPEN = 64
"""Shards that one reader holds open at a time."""


class ShardSource(Protocol):
    """Fetches byte ranges of shards, from wherever the shards lie."""

    def ranges(self, shard: str, offsets: Sequence[int], lengths: Sequence[int]) -> list[bytes]:
        """The bytes of ranges of one shard; a range that runs over the shard's end comes back short.

        offsets, lengths: first byte and size of each range. Raises DataError when the shard is missing or cannot be
        read.
        """
        ...

    def doubt(self, shard: str) -> bool:
        """Called when bytes of a shard are not those indexed. True when it may be worth reading them again."""
        ...

    def close(self) -> None:
        """Close the files or connections that the source keeps open."""
        ...


class LocalSource:
    """Shards in a local folder, read with `pread` from a bounded number of open files."""

    def __init__(self, folder: str | Path, max_open: int = MAX_OPEN) -> None:
        self.folder = Path(folder)
        self._files = _Recent(self._open, max_open, os.close)

    def ranges(self, shard: str, offsets: Sequence[int], lengths: Sequence[int]) -> list[bytes]:
        """The bytes of ranges of one shard, tried again for a while when the disk fails. Raises DataError."""
        try:
            return patiently(lambda: self._read(shard, offsets, lengths))
        except OSError as error:
            advice = "; restore it, or index the folder again" if error.errno in ABSENT else ""
            raise failure(error, f"cannot read shard {self.folder / shard}{advice}", DataError) from None

    def _read(self, shard: str, offsets: Sequence[int], lengths: Sequence[int]) -> list[bytes]:
        file = self._files.get(shard)
        try:
            return [_all_of(file, length, offset) for offset, length in zip(offsets, lengths, strict=True)]
        except OSError:
            self._files.forget(shard)  # a stale handle stays stale
            raise

    def doubt(self, shard: str) -> bool:
        """Always False: a local disk would give the same bytes again."""
        return False

    def close(self) -> None:
        """Close the tars that the source keeps open."""
        self._files.clear()

    def _open(self, shard: str) -> int:
        return open_to_read(self.folder / shard)


def _all_of(file: int, length: int, offset: int) -> bytes:
    """Bytes of an open file, fewer only at its end: a disk may give them in pieces."""
    data = os.pread(file, length, offset)
    while 0 < len(data) < length and (more := os.pread(file, length - len(data), offset + len(data))):
        data += more
    return data


class StoredPhoto(NamedTuple):
    """An encoded photo as it was read from its shard."""

    data: bytes
    """Bytes of the photo."""
    intact: bool
    """Whether they are the bytes that were indexed; a decoder would let a flipped bit pass."""
    flags: int = 0
    """Flags of its index row; 0 where the row was not read."""


class ShardReader:
    """Reads the bytes and names of samples. An instance belongs to one thread.

    Memory and open files do not grow with the data set. source: where the shards are read from; by default the
    manifest's folder, without copying anything from a store.
    """

    def __init__(self, manifest: Manifest, source: ShardSource | None = None) -> None:
        self.manifest = manifest
        self.source = source or _source(manifest)

    def read(self, ids: NDArray[np.int64]) -> list[StoredPhoto]:
        """The encoded photo of each id, in the order given; each shard is visited once, in the order of its bytes.

        Raises DataError when a shard or its index is missing.
        """
        out = [StoredPhoto(b"", False)] * len(ids)
        numbers, positions = self.manifest.locate(ids)
        for number in np.unique(numbers).tolist():
            here = np.flatnonzero(numbers == number)
            rows = self.manifest.index(number)[positions[here]]
            order = np.argsort(rows["offset"], kind="stable")
            for position, stored in zip(here[order].tolist(), self._stored(number, rows[order]), strict=True):
                out[position] = stored
        return out

    def _stored(self, number: int, rows: Rows) -> list[StoredPhoto]:
        """Photos of one shard. Bytes that differ from the index are read again if the source doubts its copy."""
        name, facts = (
            self.manifest.shards[number].name,
            list(zip(rows["crc"].tolist(), rows["flags"].tolist(), strict=True)),
        )
        for again in (True, False):
            found = self.source.ranges(name, rows["offset"].tolist(), rows["length"].tolist())
            stored = [
                StoredPhoto(data, zlib.crc32(data) == crc, f) for data, (crc, f) in zip(found, facts, strict=True)
            ]
            if all(photo.intact for photo in stored) or not (again and self.source.doubt(name)):
                break
        return stored

    def shard_of(self, sample: int) -> int:
        """Number of the shard, from 0 in the order of the manifest, that holds the sample with this id."""
        return int(self.manifest.locate([sample])[0][0])

    def check(self) -> None:
        """Raise DataError unless every shard is there, with its index."""
        check_shard_files(self.manifest.folder, self.manifest.shards, indices=True)

    def name(self, sample: int) -> tuple[str, str]:
        """Shard file and key of the sample with this id, as messages name it."""
        return self.manifest.where(sample)

    def close(self) -> None:
        """Close the source that the samples were read from."""
        self.source.close()


def _source(manifest: Manifest) -> ShardSource:
    """The source for a few scattered samples: nothing of a store is copied."""
    folder = manifest.folder
    return RangeSource(folder) if isinstance(folder, RemoteFolder) else LocalSource(folder)


def open_shard_source(manifest: Manifest) -> ShardSource:
    """The source for a whole run: shards of a store are copied to the cache if its options say so. Raises DataError."""
    folder = manifest.folder
    return cached_source(folder, manifest.shards) if isinstance(folder, RemoteFolder) else LocalSource(folder)


class _Recent:
    """The most recently used results of a function of one argument."""

    def __init__(self, make: Callable[[Any], Any], limit: int, drop: Callable[[Any], object] = lambda _: None) -> None:
        self.make, self.limit, self.drop = make, limit, drop
        self.held: OrderedDict[Any, Any] = OrderedDict()

    def get(self, name: Any) -> Any:
        if name not in self.held:
            self.held[name] = self.make(name)
            if len(self.held) > self.limit:
                self.drop(self.held.popitem(last=False)[1])
        self.held.move_to_end(name)
        return self.held[name]

    def forget(self, name: Any) -> None:
        """Drop one result, so that it is made again when it is needed."""
        if name in self.held:
            self.drop(self.held.pop(name))

    def clear(self) -> None:
        while self.held:
            self.drop(self.held.popitem()[1])
