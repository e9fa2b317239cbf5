"""Tars as WebDataset uses them, walked header by header so that damage is reported and not taken for the end.

`tarfile` ends silently at a damaged header in mid-file, and at a block of zeros that a failed copy left; the walk here
says where that is and resumes at the next header that is whole.

A hard link stands for the file that it names, whose bytes come earlier in the tar. Symbolic links, sparse files and
links to what is not there are reported as unreadable.

A sample is a run of neighbouring members with one key: the name up to the first dot of its last part; what follows that
dot is the extension (webdataset's rule).
"""

import tarfile
from collections.abc import Iterator
from typing import NamedTuple

from fra_dist.data.shards.tar_reads import Opened, Place, Read, exactly, size_of
from fra_dist.errors import DataError
from fra_dist.stand_ins import stand_in

BLOCK = tarfile.BLOCKSIZE
"""Bytes of a block of a tar."""
_ZEROS = bytes(BLOCK)
_FILES = (tarfile.REGTYPE, tarfile.AREGTYPE, tarfile.CONTTYPE)
_MOST = 1 << 20  # bytes that a header's own data (a long name) may have
_SEARCH = 1 << 20
_HEADERS = 16  # of one member: a long name, a long link name and a few of pax
_DIGITS = 20  # of a size
_SPARSE_MORE, _SPARSE_NEXT = 482, 504  # bytes that say whether another header of an old GNU sparse file follows


class Member(NamedTuple):
    """Where a regular file lies in a tar, in bytes from the tar's beginning."""

    name: str
    """Name in the tar."""
    start: int
    """Byte of its first header."""
    offset: int
    """Byte at which its contents begin."""
    size: int
    """Size of its contents in bytes."""


class UnreadableMember(NamedTuple):
    """A file that a tar names but does not hold as it is: a symbolic link, a link to nothing, a sparse file."""

    name: str
    """Name in the tar."""
    start: int
    """Byte of its first header."""
    reason: str
    """Why it cannot be read, in a few words."""


class TarDamage(NamedTuple):
    """A place of a tar whose headers cannot be read, and how many bytes were lost there."""

    start: int
    """First byte of the place."""
    bytes: int
    """Number of bytes that were passed over."""
    reason: str
    """What is wrong there, in a few words."""

    def __str__(self) -> str:
        return f"damaged at byte {self.start}: {self.reason}" + (f", {self.bytes} bytes lost" if self.bytes else "")


Item = Member | TarDamage | UnreadableMember
"""What a walk through a tar finds."""


class Sample(NamedTuple):
    """One WebDataset sample: neighbouring members of a tar whose names have the same key."""

    key: str
    """WebDataset key: the members' name before the first dot."""
    members: dict[str, Member]
    """The members by extension, in the order of the tar."""

    @property
    def start(self) -> int:
        """Byte of the first header of the first member."""
        return next(iter(self.members.values())).start


def split_name(name: str) -> tuple[str, str] | None:
    """(key, extension) of a member's name; None when it has no dot or no key, which webdataset passes over."""
    folder, slash, base = name.rpartition("/")
    stem, dot, extension = base.partition(".")
    return (folder + slash + stem, extension) if stem and dot and extension else None


def stands_in(path: Place) -> str | None:
    """What a file that should be a tar is instead, when it is a pointer or a web page, else None. Raises DataError."""
    with Opened(path) as read:
        return stand_in(read(BLOCK, 0))


def scan(path: Place) -> Iterator[Item]:
    """Walk a whole tar and yield what it holds, in its order. Raises DataError when it cannot be opened or read."""
    with Opened(path) as read:
        size = size_of(path)
        yield from _walk(read, size)


def group_samples(found: Iterator[Item], every: bool = False) -> Iterator[Sample | TarDamage | UnreadableMember]:
    """Group what `scan` found into samples; members that webdataset would pass over are left out.

    every: no groups, each member is a sample by itself, and its key ends at the last dot (`7.left` of `7.left.jpg`).
    """
    key, members = "", dict[str, Member]()
    for item in found:
        if isinstance(item, TarDamage | UnreadableMember):
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
    """Key of the sample whose first header is at byte `start`; `every` as in `group_samples`. Raises DataError."""
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
        for item in group_samples(_walk(read, size_of(path), start), every):
            if isinstance(item, TarDamage):
                raise DataError(f"{path}: {item}")
            if isinstance(item, UnreadableMember):
                continue
            for extension, member in item.members.items():
                out[extension] = exactly(read, member.offset, member.size, path)
            break
    return out


def read_range(path: Place, offset: int, length: int) -> bytes:
    """`length` bytes of a tar from byte `offset`. Raises DataError when the file ends before them."""
    with Opened(path) as read:
        return exactly(read, offset, length, path)


class _Entry(NamedTuple):
    """A member as its headers describe it, of any kind."""

    name: str
    start: int
    offset: int
    size: int
    kind: bytes
    link: str
    sparse: bool
    after: int
    """Byte of the next header."""


def _member_at(read: Read, start: int, path: Place) -> _Entry:
    try:
        entry = _header(read, start, size_of(path))
    except tarfile.TarError:
        entry = None
    if entry is None or entry.kind not in (*_FILES, tarfile.LNKTYPE):
        raise DataError(f"{path}: no file begins at byte {start}: the tar changed; index the folder again")
    return entry


def _walk(read: Read, size: int, at: int = 0) -> Iterator[Item]:
    """Members from byte `at` on; neighbouring damages are one."""
    pending: TarDamage | None = None
    known: dict[str, _Entry] | None = None
    for item in _entries(read, size, at):
        if isinstance(item, TarDamage):
            joins = pending is not None and pending.start + pending.bytes == item.start
            if pending is not None and joins:
                pending = pending._replace(bytes=pending.bytes + item.bytes)
                continue
            if pending is not None:
                yield pending
            pending = item
            continue
        if pending is not None:
            yield pending
            pending = None
        if item.kind == tarfile.LNKTYPE and known is None:  # links are rare: only now are names remembered
            known = {e.name: e for e in _entries(read, item.start, 0) if isinstance(e, _Entry) and e.kind in _FILES}
        found = _resolved(item, known)
        if found is not None:
            yield found
        if known is not None and isinstance(found, Member):
            known[item.name] = item._replace(offset=found.offset, size=found.size)
    if pending is not None:
        yield pending


def _resolved(entry: _Entry, known: dict[str, _Entry] | None) -> Member | UnreadableMember | None:
    """None for folders and devices."""
    if entry.sparse:
        return UnreadableMember(
            entry.name, entry.start, "a sparse file, stored without its zeros: extract and pack it again"
        )
    if entry.kind in _FILES:
        return Member(entry.name, entry.start, entry.offset, entry.size)
    if entry.kind == tarfile.SYMTYPE:
        return UnreadableMember(entry.name, entry.start, f"a symbolic link to {entry.link}, which is not followed")
    if entry.kind != tarfile.LNKTYPE:
        return None
    if entry.size:  # some writers store the bytes again
        return Member(entry.name, entry.start, entry.offset, entry.size)
    first = (known or {}).get(entry.link)
    if first is None or first.sparse:
        return UnreadableMember(
            entry.name, entry.start, f"a hard link to {entry.link}, which is not in the tar before it"
        )
    return Member(entry.name, entry.start, first.offset, first.size)


def _entries(read: Read, size: int, at: int) -> Iterator[_Entry | TarDamage]:
    while True:
        if at + BLOCK > size:
            yield TarDamage(at, max(0, size - at), "the tar has no end mark, so it may have been cut")
            return
        if read(BLOCK, at) == _ZEROS:
            following = _next_header(read, at, size)
            if following is None:
                if not _only_zeros(read, at, size):
                    yield TarDamage(at, size - at, "zeros, and data without a header behind them")
                elif size % BLOCK:
                    yield TarDamage(at, 0, f"the tar is no whole number of {BLOCK}-byte blocks, so bytes are missing")
                return
            yield TarDamage(at, following - at, "zeros in the middle")
            at = following
            continue
        try:
            entry = _header(read, at, size)
            reason = f"cut in the middle of {entry.name}" if entry.offset + entry.size > size else ""
        except tarfile.TarError as error:
            reason = f"bad header ({error})"
        if not reason:
            yield entry
            at = entry.after
            continue
        following = _next_header(read, at + BLOCK, size)
        yield TarDamage(at, (size if following is None else following) - at, reason)
        if following is None:
            return
        at = following


def _header(read: Read, at: int, end: int) -> _Entry:
    """The member whose headers begin at byte `at`. Raises TarError; end: size of the tar."""
    start, name, link, fields = at, None, None, dict[str, str]()
    for _ in range(_HEADERS):
        info = tarfile.TarInfo.frombuf(read(BLOCK, at), "utf-8", "surrogateescape")
        at += BLOCK
        if info.type not in (tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK, tarfile.XHDTYPE, tarfile.XGLTYPE):
            return _entry(read, info, start, at, (name, link), fields)
        if not 0 <= info.size <= (end if info.type == tarfile.XGLTYPE else _MOST):
            raise tarfile.ReadError("impossible size")
        if info.type == tarfile.XHDTYPE:
            fields = _pax(read(info.size, at))
            name, link = fields.get("path", name), fields.get("linkpath", link)
        elif info.type != tarfile.XGLTYPE:
            text = read(info.size, at).partition(b"\0")[0].decode("utf-8", "surrogateescape")
            name, link = (text, link) if info.type == tarfile.GNUTYPE_LONGNAME else (name, text)
        at += _padded(info.size)
    raise tarfile.ReadError("headers without a file")


def _entry(
    read: Read,
    info: tarfile.TarInfo,
    start: int,
    at: int,
    names: tuple[str | None, str | None],
    fields: dict[str, str],
) -> _Entry:
    digits = fields.get("size", "")
    if len(digits) > _DIGITS:
        raise tarfile.ReadError("impossible size")
    length = int(digits) if digits.isdecimal() else info.size
    if not 0 <= length < 1 << 62:
        raise tarfile.ReadError("impossible size")
    sparse = info.type == tarfile.GNUTYPE_SPARSE or any(field.startswith("GNU.sparse.") for field in fields)
    if info.type == tarfile.GNUTYPE_SPARSE:
        at = _behind_sparse_headers(read, at)
    name = fields.get("GNU.sparse.name") or names[0] or info.name
    stored = info.type in _FILES or info.type == tarfile.GNUTYPE_SPARSE or info.type not in tarfile.SUPPORTED_TYPES
    if info.type == tarfile.LNKTYPE:
        stored = length > 0 and not _is_header(read(BLOCK, at)) and _is_header(read(BLOCK, at + _padded(length)))
    length = length if stored else 0
    return _Entry(name, start, at, length, info.type, names[1] or info.linkname, sparse, at + _padded(length))


def _behind_sparse_headers(read: Read, at: int) -> int:
    more = read(BLOCK, at - BLOCK)[_SPARSE_MORE]
    while more:
        block = read(BLOCK, at)
        if len(block) < BLOCK:
            raise tarfile.ReadError("cut in the headers of a sparse file")
        more, at = block[_SPARSE_NEXT], at + BLOCK
    return at


def _only_zeros(read: Read, at: int, size: int) -> bool:
    """Whether nothing but zeros lies between byte `at` and the end of the tar."""
    while at < size and (piece := read(min(_SEARCH, size - at), at)):
        if piece.strip(b"\0"):
            return False
        at += len(piece)
    return True


def _padded(length: int) -> int:
    return -(-length // BLOCK) * BLOCK


def _is_header(block: bytes) -> bool:
    """Also for the zeros that end a tar."""
    if block in (_ZEROS, b""):
        return True
    try:
        tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
    except tarfile.TarError:
        return False
    return True


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
