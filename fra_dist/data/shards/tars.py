"""Tars as WebDataset uses them, walked header by header so that damage is seen and passed, not taken for the end.

`tarfile` ends quietly at a damaged header in mid-file, and at a block of zeros that a failed copy left; the walk here
says where that is and goes on at the next header that is whole.

A sample is a run of neighbouring members of one key: the name up to the first dot of its last part; what follows that
dot is the extension (webdataset's rule).
"""

import tarfile
from collections.abc import Iterator
from typing import NamedTuple

from fra_dist.data.shards.tar_reads import Opened, Place, Read, exactly, size_of
from fra_dist.errors import DataError

BLOCK = tarfile.BLOCKSIZE
_ZEROS = bytes(BLOCK)
_FILES = (tarfile.REGTYPE, tarfile.AREGTYPE, tarfile.CONTTYPE)
_MOST = 1 << 20  # bytes that a header's own data (a long name) may have
_SEARCH = 1 << 20


class Member(NamedTuple):
    """A regular file in a tar: the byte of its first header, and where its contents lie."""

    name: str
    start: int
    offset: int
    size: int


class Damage(NamedTuple):
    """A place where the tar cannot be read: `bytes` bytes from byte `start` were passed over."""

    start: int
    bytes: int
    reason: str

    def __str__(self) -> str:
        return f"damaged at byte {self.start}: {self.reason}" + (f", {self.bytes} bytes lost" if self.bytes else "")


class Sample(NamedTuple):
    """Neighbouring members of one key, by extension, in the order of the tar."""

    key: str
    members: dict[str, Member]

    @property
    def start(self) -> int:
        return next(iter(self.members.values())).start


def split_name(name: str) -> tuple[str, str] | None:
    """(key, extension) of a member's name; None when it has no dot or no key, which webdataset passes over."""
    folder, slash, base = name.rpartition("/")
    stem, dot, extension = base.partition(".")
    return (folder + slash + stem, extension) if stem and dot and extension else None


def scan(path: Place) -> Iterator[Member | Damage]:
    """Walk a whole tar. Raises DataError when it cannot be opened or read."""
    with Opened(path) as read:
        size = size_of(path)
        yield from _walk(read, size)


def samples(found: Iterator[Member | Damage], every: bool = False) -> Iterator[Sample | Damage]:
    """Group what `scan` found; members that webdataset would pass over are left out.

    every: no groups, each member is a sample by itself, and its key ends at the last dot (`7.left` of `7.left.jpg`).
    """
    key, members = "", dict[str, Member]()
    for item in found:
        if isinstance(item, Damage):
            yield item
            continue
        parts = split_name(item.name)
        if parts is None:
            continue
        if every:
            stem, _, extension = item.name.rpartition(".")
            yield Sample(stem, {extension: item})
            continue
        if members and (parts[0] != key or parts[1] in members):
            yield Sample(key, members)
            members = {}
        key = parts[0]
        members[parts[1]] = item
    if members:
        yield Sample(key, members)


def key_at(path: Place, start: int, every: bool = False) -> str:
    """Key of the sample whose first header is at byte `start`; `every` as in `samples`. Raises DataError."""
    with Opened(path) as read:
        name = _member_at(read, start, path).name
    parts = split_name(name)
    if parts is None:
        raise DataError(f"{path}: no sample begins at byte {start}: index the folder again")
    return name.rpartition(".")[0] if every else parts[0]


def members_at(path: Place, start: int, every: bool = False) -> dict[str, bytes]:
    """Contents of the sample whose first header is at byte `start`, by extension. Raises DataError."""
    out: dict[str, bytes] = {}
    with Opened(path) as read:
        _member_at(read, start, path)
        for item in samples(_walk(read, size_of(path), start), every):
            if isinstance(item, Damage):
                raise DataError(f"{path}: {item}")
            for extension, member in item.members.items():
                out[extension] = exactly(read, member.offset, member.size, path)
            break
    return out


def read_range(path: Place, offset: int, length: int) -> bytes:
    """Raises DataError when the file has no such bytes."""
    with Opened(path) as read:
        return exactly(read, offset, length, path)


def _member_at(read: Read, start: int, path: Place) -> Member:
    try:
        member, _ = _header(read, start)
    except tarfile.TarError:
        member = None
    if member is None:
        raise DataError(f"{path}: no file begins at byte {start}: the tar changed; index the folder again")
    return member


def _walk(read: Read, size: int, at: int = 0) -> Iterator[Member | Damage]:
    while True:
        if at + BLOCK > size:
            yield Damage(at, size - at, "the tar has no end mark, so it may have been cut")
            return
        if read(BLOCK, at) == _ZEROS:
            following = _next_header(read, at, size)
            if following is None:
                return
            yield Damage(at, following - at, "zeros in the middle")
            at = following
            continue
        try:
            member, after = _header(read, at)
        except tarfile.TarError as error:
            following = _next_header(read, at + BLOCK, size)
            yield Damage(at, (size if following is None else following) - at, f"bad header ({error})")
            if following is None:
                return
            at = following
            continue
        if member is not None and member.offset + member.size > size:
            yield Damage(at, size - at, f"cut in the middle of {member.name}")
            return
        if member is not None:
            yield member
        at = after


def _header(read: Read, at: int) -> tuple[Member | None, int]:
    """The member whose headers begin at byte `at` (None for folders and links) and where the next one begins."""
    start, name, size = at, None, None
    while True:
        info = tarfile.TarInfo.frombuf(read(BLOCK, at), "utf-8", "surrogateescape")
        if info.size < 0 or (info.type in (tarfile.GNUTYPE_LONGNAME, tarfile.XHDTYPE) and info.size > _MOST):
            raise tarfile.ReadError("impossible size")
        at += BLOCK
        if info.type == tarfile.GNUTYPE_LONGNAME:
            name = read(info.size, at).partition(b"\0")[0].decode("utf-8", "surrogateescape")
        elif info.type == tarfile.XHDTYPE:
            fields = _pax(read(info.size, at))
            name = fields.get("path", name)
            size = int(fields["size"]) if fields.get("size", "").isdecimal() else size
        elif info.type not in (tarfile.GNUTYPE_LONGLINK, tarfile.XGLTYPE):
            length = info.size if size is None else size
            has_data = info.type in _FILES or info.type not in tarfile.SUPPORTED_TYPES
            after = at + (-(-length // BLOCK) * BLOCK if has_data else 0)
            return (Member(name or info.name, start, at, length) if info.type in _FILES else None), after
        at += -(-info.size // BLOCK) * BLOCK


def _pax(data: bytes) -> dict[str, str]:
    """Records `LENGTH KEY=VALUE\\n` of an extended header (POSIX.1-2001, pax)."""
    fields = {}
    while data:
        digits = data.partition(b" ")[0]
        length = int(digits) if digits.isdigit() and len(digits) < 8 else 0
        if not len(digits) + 2 <= length <= len(data):
            break
        field, _, value = data[len(digits) + 1 : length - 1].partition(b"=")
        fields[field.decode("utf-8", "replace")] = value.decode("utf-8", "surrogateescape")
        data = data[length:]
    return fields


def _next_header(read: Read, at: int, size: int) -> int | None:
    """Byte of the first whole header at or after `at`, in steps of a block."""
    while at + BLOCK <= size:
        piece = read(_SEARCH, at)
        for place in range(0, len(piece) - BLOCK + 1, BLOCK):
            block = piece[place : place + BLOCK]
            if block[257:262] == b"ustar" or (block[148:156].strip(b" \0").isdigit() and block != _ZEROS):
                try:
                    tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
                except tarfile.TarError:
                    continue
                return at + place
        at += max(BLOCK, len(piece) // BLOCK * BLOCK)
    return None
