"""Sources of a `ShardReader` for shards behind a URL: by range requests, or from copies in the cache."""

import hashlib
import os
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from fra_dist.data.shards.index import ShardEntry
from fra_dist.data.stores.fetching import Range
from fra_dist.data.stores.remote_folder import RemoteFolder
from fra_dist.data.stores.shard_cache import ShardCache
from fra_dist.errors import DataError
from fra_dist.files import failure

STATS = (
    *("bytes_fetched", "requests", "retries", "hits", "misses", "waited", "wait_seconds", "prefetched"),
    *("evicted", "damaged", "no_room", "direct"),
)
"""Names of what is counted.

bytes_fetched, requests: bytes from the store and requests to it; retries: requests and downloads that were repeated;
hits, misses, waited: shards that the reader found in the cache, fetched itself, or waited for while another process
fetched them, and wait_seconds, the time that took; prefetched: shards fetched ahead; evicted, damaged: copies removed
for space, or found damaged; no_room: shards that did not fit into the cache; direct: reads without a copy.
"""
PIECE = 8 << 20
"""Bytes that one request of a download asks for."""
_PARALLEL = 2  # requests of one download
_SMALL_PARALLEL = 32  # requests for single samples
_MAX_OPEN = 64
_CHUNK = 1 << 20


class RangeSource:
    """Reads samples from the store itself, with one range request each."""

    def __init__(self, folder: RemoteFolder) -> None:
        self.folder = folder

    def ranges(self, shard: str, offsets: Sequence[int], lengths: Sequence[int]) -> list[bytes]:
        """The bytes of ranges of one shard, by parallel requests. Raises DataError."""
        path = self.folder.path(shard)
        wanted = [Range(path, offset, length) for offset, length in zip(offsets, lengths, strict=True)]
        return list(self.folder.fetcher.read_all(wanted, _SMALL_PARALLEL))

    def doubt(self, shard: str) -> bool:
        """Always True: bytes are sometimes changed in transit, and a second answer decides."""
        self.folder.counters.add("retries")
        return True

    def close(self) -> None:
        """Nothing stays open here; the folder's filesystem may have other readers."""


@dataclass
class _Open:
    file: int
    used: int
    """Number of the call of `ranges` that used it last."""


class CachedSource:
    """Reads copies of whole shards, and fetches those that are missing; by range requests where the cache has no space.

    shards: every shard by name. An instance belongs to one thread, except for `ahead`.
    """

    def __init__(self, folder: RemoteFolder, cache: ShardCache, shards: Mapping[str, ShardEntry]) -> None:
        self.folder, self.cache, self.shards = folder, cache, shards
        self._fetcher = folder.fetcher  # made here, before there are other threads
        self._direct = RangeSource(folder)
        self._held: OrderedDict[str, _Open] = OrderedDict()
        self._calls = 0
        self._checked: set[str] = set()

    def ranges(self, shard: str, offsets: Sequence[int], lengths: Sequence[int]) -> list[bytes]:
        """The bytes of ranges of one shard, which is fetched first when there is no copy. Raises DataError."""
        self._calls += 1
        held = self._held.get(shard) or self._hold(shard)
        if held is None:
            self.folder.counters.add("direct")
            return self._direct.ranges(shard, offsets, lengths)
        held.used = self._calls
        self._held.move_to_end(shard)
        try:
            return [os.pread(held.file, length, offset) for offset, length in zip(offsets, lengths, strict=True)]
        except OSError as error:
            raise failure(error, f"cannot read the copy of {shard} in {self.cache.folder}", DataError) from None

    def doubt(self, shard: str) -> bool:
        """True when the copy was damaged and has been removed. A copy that equals the original is not checked again."""
        held, digest = self._held.get(shard), self.shards[shard].sha256
        if held is None:
            return self._direct.doubt(shard)
        if digest in self._checked:
            return False
        if _sha256(held.file) == digest:
            self._checked.add(digest)
            return False
        self.cache.drop(digest, held.file)
        self._let_go(shard)
        return True

    def ahead(self, shard: str) -> None:
        """Make sure that the cache holds a copy of a shard. Any thread may call this. Raises what `ranges` raises."""
        file = self._fetch(shard, lambda outcome: self._count("prefetched" if outcome == "misses" else None))
        if file is not None:
            os.close(file)

    def close(self) -> None:
        """Close all copies, so that they can be evicted."""
        for shard in list(self._held):
            self._let_go(shard)

    def _hold(self, shard: str) -> _Open | None:
        """Open a shard. Those not read for a while are let go, so that they can be evicted."""
        stale = self._calls - 4 * len(self._held) - 16
        for name, other in list(self._held.items()):
            if other.used >= stale and len(self._held) < _MAX_OPEN:
                break  # the others were used later
            self._let_go(name)
        began = time.monotonic()
        file = self._fetch(shard, self._count)
        self.folder.counters.add("wait_seconds", time.monotonic() - began)
        if file is None:
            return None
        self._held[shard] = _Open(file, self._calls)
        return self._held[shard]

    def _let_go(self, shard: str) -> None:
        os.close(self._held.pop(shard).file)

    def _count(self, name: str | None) -> None:
        if name is not None:
            self.folder.counters.add(name)

    def _fetch(self, shard: str, count: Callable[[str], None]) -> int | None:
        entry, name = self.shards[shard], str(self.folder / shard)
        self._fetcher.check_running()
        return self.cache.fetch(
            entry.sha256, entry.bytes, lambda: self._pieces(entry), self._fetcher.pause, name, count
        )

    def _pieces(self, entry: ShardEntry) -> Iterator[bytes]:
        path = self.folder.path(entry.name)
        if entry.bytes <= PIECE:
            return self._fetcher.read_all([Range(path, 0, entry.bytes, whole=True)], 1)
        starts = range(0, entry.bytes, PIECE)
        wanted = (Range(path, start, min(PIECE, entry.bytes - start)) for start in starts)
        return self._fetcher.read_all(wanted, _PARALLEL)


def cached_source(folder: RemoteFolder, shards: Sequence[ShardEntry]) -> "CachedSource | RangeSource":
    """The source that the folder's options ask for. Raises DataError when a shard is larger than the cache."""
    cache = folder.cache
    if cache is None:
        return RangeSource(folder)
    largest = max(shards, key=lambda shard: shard.bytes)
    if largest.bytes > cache.limit:
        raise DataError(
            f"{folder / largest.name} has {largest.bytes / 1e9:.2f} GB, more than data.cache_gb allows "
            f"({cache.limit / 1e9:.2f} GB): raise it, or set data.cache_gb=0 to read without copies"
        )
    return CachedSource(folder, cache, {shard.name: shard for shard in shards})


def _sha256(file: int) -> str:
    """SHA-256 of a whole open file; its position does not matter and is not moved."""
    sha256, at = hashlib.sha256(), 0
    while data := os.pread(file, _CHUNK, at):
        sha256.update(data)
        at += len(data)
    return sha256.hexdigest()
