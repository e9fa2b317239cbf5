"""The index of a shard: where its images lie and how large they are, as one numpy array beside the tar."""

import hashlib
import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fra_dist.data.shards.tars import BLOCK
from fra_dist.data.stores.remote_folder import RemoteFolder
from fra_dist.errors import DataError
from fra_dist.files import failure, patiently, raw_bytes
from fra_dist.stand_ins import stand_in, stand_in_at

INDEX_DTYPE = np.dtype(
    [
        ("start", "<i8"),  # byte of the sample's first tar header
        ("offset", "<i8"),  # byte of the image
        ("length", "<i4"),  # of the image, in bytes
        ("height", "<i4"),  # of the upright image, in pixels
        ("width", "<i4"),
        ("flags", "<i4"),  # sum of DECODED, PLAIN, GREY, CHECKED and OPEN
        ("crc", "<u4"),  # CRC-32 of the image's bytes
    ]
)
"""One row of an index: place, size and checksum of a sample's image."""
DECODED = 1
"""Flag: the image was decoded completely when the index was made."""
PLAIN = 2
"""Flag: a baseline or progressive 8-bit JPEG of one or three components, which every decoder takes."""
GREY = 4
"""Flag: the image has one channel."""
CHECKED = 8
"""Flag: the image was not decoded, but is whole as far as can be told without that; see `images.complete_bytes`."""
OPEN = 16
"""Flag: a JPEG that is whole but has no end mark in its place; `images.complete_bytes` gives it one."""

Rows = NDArray[Any]
"""An index: (samples,) of INDEX_DTYPE, in the order of the tar."""


@dataclass(frozen=True, slots=True)
class ShardEntry:
    """One shard as the manifest lists it: names, sizes and checksums of its tar and index, and its sample ids."""

    name: str
    """File name of the tar, relative to the folder of shards."""
    samples: int
    """Number of samples in the shard."""
    bytes: int
    """Size of the tar in bytes."""
    sha256: str
    """SHA-256 of the tar, in hexadecimal."""
    index: str
    """File name of the shard's index, relative to the folder of shards."""
    index_sha256: str
    """SHA-256 of the index file, in hexadecimal."""
    start: int
    """Sample id of the shard's first sample."""


def index_name(shard: str) -> str:
    """File name of a shard's index: `a/b.tar` has `a/b.idx.npy`."""
    return shard.removesuffix(".tar") + ".idx.npy"


def index_bytes(rows: Rows) -> bytes:
    """The contents of an index file with these rows; the same rows always give the same bytes."""
    out = io.BytesIO()
    np.lib.format.write_array(out, rows, version=(1, 0), allow_pickle=False)
    return out.getvalue()


def parse_index(data: bytes) -> Rows:
    """The rows in the bytes of an index file, read-only.

    Raises DataError whose text says what is wrong, to follow "index X is".
    """
    try:
        rows = np.load(io.BytesIO(data), allow_pickle=False)
    except Exception:  # numpy reads the header as Python source: a damaged one can raise nearly anything
        raise DataError("not an array file") from None
    if not isinstance(rows, np.ndarray) or rows.dtype != INDEX_DTYPE or rows.ndim != 1:
        raise DataError("of another format")
    rows.setflags(write=False)
    return rows


def misfit(rows: Rows, entry: ShardEntry) -> str | None:
    """Why an index cannot belong to the shard of a manifest's entry, in a few words, or None when it fits."""
    if len(rows) != entry.samples:
        return f"{len(rows)} rows for {entry.samples} samples"
    if not len(rows):
        return None
    start, offset, length = rows["start"], rows["offset"], rows["length"]
    linked = offset + length <= start  # the bytes of a hard link come before its header
    if int(start[0]) < 0 or np.any(np.diff(start) <= 0) or np.any((offset < start + BLOCK) & ~linked):
        return "its rows are out of order"
    if np.any(length < 0) or np.any(offset > entry.bytes - length):
        return "it points outside the tar"
    return "it has images without pixels" if np.any(rows["height"] < 1) or np.any(rows["width"] < 1) else None


def read_index(folder: Path | RemoteFolder, entry: ShardEntry) -> Rows:
    """The index of a shard, verified against the manifest's entry and, in a local folder, the size of the tar.

    Raises DataError when the tar or the index is missing, damaged, or belongs to something else.
    """
    path = folder / entry.index
    if isinstance(folder, RemoteFolder):
        advice = "upload it again"
        data = folder.verified(entry.index, entry.index_sha256)
    else:
        advice = f"restore it, or run: fra-dist shards index {folder}"
        data = _read_beside(folder / entry.name, folder / entry.index, entry, advice)
    try:
        rows = parse_index(data)
    except DataError as error:
        raise DataError(f"index {path} is {error}; {advice}") from None
    reason = misfit(rows, entry)
    if reason is not None:
        raise DataError(f"index {path} does not fit its shard: {reason}; {advice}")
    return rows


def _read_beside(tar: Path, path: Path, entry: ShardEntry, advice: str) -> bytes:
    """The file of an index whose tar is there."""
    try:
        size = patiently(tar.stat).st_size
    except OSError as error:
        raise failure(error, f"cannot read shard {tar} ({advice})", DataError) from None
    if size != entry.bytes:
        if (found := stand_in_at(tar)) is not None:
            raise DataError(f"shard {tar} is {found}")
        raise DataError(f"shard {tar} has {size} bytes but {entry.bytes} in the manifest, so it changed; {advice}")
    try:
        data = raw_bytes(path)
    except OSError as error:
        raise failure(error, f"cannot read index {path} ({advice})", DataError) from None
    if (found := stand_in(data)) is not None:
        raise DataError(f"index {path} is {found}")
    if hashlib.sha256(data).hexdigest() != entry.index_sha256:
        raise DataError(f"index {path} is not the one that the manifest names (its checksum differs); {advice}")
    return data
