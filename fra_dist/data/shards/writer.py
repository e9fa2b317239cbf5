"""Writes one WebDataset tar and its index, under temporary names that are changed when the files are complete."""

import contextlib
import hashlib
import os
import tarfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np

from fra_dist.data.shards.index import INDEX_DTYPE, ShardEntry, index_bytes, index_name
from fra_dist.data.shards.samples import Encoded
from fra_dist.data.shards.tars import BLOCK
from fra_dist.errors import DataError
from fra_dist.files import failure, write_whole


class ShardWriter:
    """Writes the shard `folder/name` and its index.

    The bytes depend on the samples and their order only (the tar writer of webdataset, with time 0). Raises DataError
    when the file cannot be created.
    """

    def __init__(self, folder: Path, name: str) -> None:
        import webdataset  # takes a second, and worker processes do without it

        self.folder, self.name = folder, name
        self._file = _HashedFile(folder / f"{name}.part")
        self._tar = webdataset.TarWriter(self._file, encoder=False, mtime=0)
        self._rows: list[tuple[int, ...]] = []
        self.bytes = 0
        """Bytes of the samples written so far, with their tar headers."""

    @property
    def samples(self) -> int:
        """Number of samples written to this shard so far."""
        return len(self._rows)

    def size_with(self, sample: Encoded) -> int:
        """Bytes that the finished tar would have if `sample` were its last."""
        return _whole_tar(self.bytes + sum(_in_tar(data) for data in sample.members.values()))

    def write(self, sample: Encoded) -> None:
        """Append a sample. It must have a member `jpg`."""
        self._tar.write({"__key__": sample.key, **sample.members})
        offset = start = self.bytes
        for extension in sorted(sample.members):  # the order in which webdataset writes
            if extension == "jpg":
                offset = self.bytes + BLOCK
            self.bytes += _in_tar(sample.members[extension])
        image = sample.members["jpg"]
        row = (start, offset, len(image), sample.height, sample.width, sample.flags, zlib.crc32(image))
        self._rows.append(row)

    def finish(self) -> ShardEntry:
        """Close the tar, write the index, and give both files their final names.

        Returns the shard's entry with start 0, as if it were the first of the manifest.
        """
        self._tar.close()
        size = self._file.close()
        if size != _whole_tar(self.bytes):
            raise RuntimeError(f"{self.name}: the tar library wrote other headers than the index reckons with")
        data = index_bytes(np.array(self._rows, INDEX_DTYPE))
        index = index_name(self.name)
        write_whole(self.folder / index, data)
        # not `whole_file`: a shard stays open over many calls, and is hashed as it is written
        os.replace(self.folder / f"{self.name}.part", self.folder / self.name)
        digest = hashlib.sha256(data).hexdigest()
        return ShardEntry(self.name, self.samples, size, self._file.sha256.hexdigest(), index, digest, 0)

    def abandon(self) -> None:
        """Close the tar and delete what was written, whatever went wrong before."""
        with contextlib.suppress(OSError, ValueError):  # a full disk is full at the second try too
            self._tar.close()
        with contextlib.suppress(OSError):
            self._file.close()
        (self.folder / f"{self.name}.part").unlink(missing_ok=True)


def _in_tar(data: bytes) -> int:
    return BLOCK + -(-len(data) // BLOCK) * BLOCK


def _whole_tar(members: int) -> int:
    """Bytes of a tar whose members take `members` bytes: with the end mark, filled up to a whole record."""
    return -(-(members + 2 * BLOCK) // tarfile.RECORDSIZE) * tarfile.RECORDSIZE


class _HashedFile:
    """A file that is hashed as it is written."""

    def __init__(self, path: Path) -> None:
        try:
            self._file = open(path, "wb")  # noqa: SIM115 (closed by close)
        except OSError as error:
            raise failure(error, f"cannot write {path}", DataError) from None
        self.sha256 = hashlib.sha256()

    def write(self, data: Any) -> int:
        self.sha256.update(data)
        return self._file.write(data)

    def close(self) -> int:
        """Flush the file to the disk and close it. Returns its size in bytes."""
        if self._file.closed:
            return 0
        with self._file:
            self._file.flush()
            os.fsync(self._file.fileno())
            return self._file.tell()
