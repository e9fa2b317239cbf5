"""Copies of shards on a node's disk, shared by its processes and kept between runs.

    CACHE/
      lock                  held while space is made
      SHA256                a complete file, named after its contents
      SHA256.part           a file being fetched by the process that has it locked

Only names of this form are ever touched. A file's lock (flock, which the kernel drops when a process dies) says what is
continuing: an exclusive lock on a `.part` means that one process fetches it and the others wait; a shared lock on a
complete file means that a process reads it, so that it is not evicted. A `.part` without a lock was left by a killed
process.
"""

import contextlib
import hashlib
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path

from fra_dist.data.stores.fetching import Counters
from fra_dist.data.stores.file_locks import EXCLUSIVE, SHARED, inode, is_at, try_lock, wait_for_lock, write_at
from fra_dist.errors import DataError
from fra_dist.files import exists, failure, open_to_read, raw_bytes

Chunks = Callable[[], Iterator[bytes]]
"""Starts a download and yields the pieces of the file in order."""
Pause = Callable[[float], None]
"""Sleeps for a number of seconds; may raise to end a wait."""

_OURS = re.compile(r"[0-9a-f]{64}(\.part)?")
_PART = ".part"
_POLL = 0.05  # seconds between looks at a file that another process fetches
_DOWNLOADS = 3  # of a file whose bytes turn out wrong


class ShardCache:
    """The cache of shards in one folder. Threads may share it.

    limit: bytes that the files may take together; the least recently used are evicted first. counters: receives
    `evicted`, `damaged` and `retries`. Raises DataError when the folder cannot be used.
    """

    def __init__(self, folder: Path, limit: int, counters: Counters) -> None:
        self.folder, self.limit, self.counters = folder, limit, counters
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with self._space_lock():
                pass
            self._clean()
        except OSError as error:
            advice = "set data.cache to a folder on a local disk, or data.cache_gb=0 to read without one"
            raise failure(error, f"cannot use the cache folder {folder} ({advice})", DataError) from None

    def open(self, digest: str, size: int) -> int | None:
        """The file descriptor of a copy of the right size, locked against eviction until it is closed; None when there
        is none.

        digest: SHA-256 of the file in hexadecimal, which names it; size: its bytes.
        """
        path = self._path(digest)
        try:
            file = open_to_read(path)
        except OSError:
            return None
        if try_lock(file, SHARED):
            found = os.fstat(file)
            if found.st_nlink and found.st_size == size:
                with contextlib.suppress(OSError):
                    os.utime(file)  # used last now; reading alone need not be noted by a file system
                return file
            if found.st_nlink:
                self.drop(digest, file)
        os.close(file)
        return None

    def drop(self, digest: str, file: int) -> None:
        """Remove a damaged copy, unless another file has taken its place already."""
        path = self._path(digest)
        if is_at(file, path):
            path.unlink(missing_ok=True)
            self.counters.add("damaged")

    def fetch(
        self, digest: str, size: int, chunks: Chunks, pause: Pause, name: str, count: Callable[[str], None]
    ) -> int | None:
        """As `open`, but downloads the file when there is no copy; None when the files being read leave no space for
        it.

        One process downloads and the others wait for it. pause: sleeps, and may raise to end the wait. count: is called
        with `hits`, `misses`, `waited` (another process fetched the file) or `no_room`. Raises DataError naming `name`
        when the bytes have another checksum each time, or the disk is full.
        """
        waited = False
        while True:
            try:
                file = self.open(digest, size)
                if file is not None:
                    count("waited" if waited else "hits")
                    return file
                part = self._claim(digest)
                if part is None:
                    waited = True
                    pause(_POLL)
                    continue
                if not self._fill(part, digest, size, chunks, name):
                    count("no_room")
                    return None
            except OSError as error:
                advice = "free some space, lower data.cache_gb, or set data.cache to another disk"
                raise failure(error, f"cannot keep {name} in {self.folder} ({advice})", DataError) from None
            count("misses")
            if try_lock(part, SHARED) and os.fstat(part).st_nlink:
                return part
            os.close(part)  # flock drops the exclusive lock before it takes the shared one: evicted in between

    def get_small(self, digest: str) -> bytes | None:
        """The bytes of a small file if the cache holds it, else None; a copy that does not match its checksum is
        dropped."""
        path = self._path(digest)
        try:
            data = raw_bytes(path)
            os.utime(path)
        except OSError:
            return None
        if hashlib.sha256(data).hexdigest() == digest:
            return data
        path.unlink(missing_ok=True)
        self.counters.add("damaged")
        return None

    def put_small(self, digest: str, data: bytes) -> None:
        """Keep a copy of a small file if there is space. A failure is ignored, since reading works without the copy."""
        with contextlib.suppress(OSError):
            part = self._claim(digest)
            if part is not None and self._fill(part, digest, len(data), lambda: iter([data]), digest):
                os.close(part)

    def used(self) -> int:
        """Bytes of all files of the cache; those still being fetched count with their full size."""
        return sum(size for _, size, _ in self._files())

    def _path(self, digest: str, suffix: str = "") -> Path:
        """Path of a file of the cache. Digests come from a manifest, and must not lead out of the folder."""
        if not _OURS.fullmatch(digest) or digest.endswith(_PART):
            raise DataError(f"{digest[:80]!r} is not a SHA-256 in hexadecimal: manifest.json is damaged; make it again")
        return self.folder / (digest + suffix)

    def _claim(self, digest: str) -> int | None:
        """The `.part` of a file, locked; None when another has it or the file is there by now."""
        path = self._path(digest, _PART)
        part = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        if try_lock(part, EXCLUSIVE) and is_at(part, path):
            if not exists(self._path(digest)):
                return part
            path.unlink()
        os.close(part)
        return None

    def _fill(self, part: int, digest: str, size: int, chunks: Chunks, name: str) -> bool:
        """Download into a claimed `.part` and give it its name; False, and closed, when there is no space."""
        path = self._path(digest, _PART)
        try:
            if self._reserve(part, size):
                self._download(part, digest, size, chunks, name)
                os.rename(path, self._path(digest))  # not `whole_file`: the lock on the open file goes along
                return True
        except BaseException:
            path.unlink(missing_ok=True)
            os.close(part)
            raise
        path.unlink()
        os.close(part)
        return False

    def _download(self, part: int, digest: str, size: int, chunks: Chunks, name: str) -> None:
        for _ in range(_DOWNLOADS):
            sha256, at = hashlib.sha256(), 0
            for data in chunks():
                sha256.update(data)
                write_at(part, data, at)
                at += len(data)
            if at == size and sha256.hexdigest() == digest:
                return
            self.counters.add("retries")
        raise DataError(
            f"{name} is not the file that manifest.json names: its checksum differs after {_DOWNLOADS} downloads; "
            "upload the shard and the manifest again, or index the tars again"
        )

    def _reserve(self, part: int, size: int) -> bool:
        """Evict enough to give a `.part` its full size, which other processes then count; False when that fails."""
        own = os.fstat(part).st_ino
        with self._space_lock():
            files = [(used, bytes_, path) for used, bytes_, path in self._files() if inode(path) != own]
            total = sum(bytes_ for _, bytes_, _ in files) + size
            for _, bytes_, path in sorted(files):
                if total <= self.limit:
                    break
                if path.suffix != _PART and self._evict(path):
                    self.counters.add("evicted")
                    total -= bytes_
            if total > self.limit:
                return False
            os.ftruncate(part, 0)
            os.ftruncate(part, size)
        return True

    def _evict(self, path: Path) -> bool:
        """Remove a file unless a process has it locked. True when it is gone."""
        try:
            file = open_to_read(path)
        except FileNotFoundError:
            return True
        try:
            if not try_lock(file, EXCLUSIVE):
                return False
            if is_at(file, path):
                path.unlink()
        finally:
            os.close(file)
        return True

    def _files(self) -> list[tuple[int, int, Path]]:
        """(time of last use in ns, bytes, path) of everything that is ours."""
        found = []
        with os.scandir(self.folder) as entries:
            for entry in entries:
                if _OURS.fullmatch(entry.name):
                    with contextlib.suppress(FileNotFoundError):
                        about = entry.stat()
                        found.append((about.st_mtime_ns, about.st_size, Path(entry.path)))
        return found

    def _clean(self) -> None:
        """Remove unfinished downloads that killed processes left."""
        for _, _, path in self._files():
            if path.suffix == _PART:
                self._evict(path)

    @contextlib.contextmanager
    def _space_lock(self) -> Iterator[None]:
        """The lock under which space is made. It is held for milliseconds, so waiting for it needs no time limit."""
        file = os.open(self.folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        try:
            wait_for_lock(file)
            yield
        finally:
            os.close(file)
