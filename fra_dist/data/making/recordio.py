"""Lists the photos in an MXNet RecordIO file (`train.rec`), the format of the aligned face recognition sets.

A record is the number 0xced7230a, a word whose lower 29 bits are a length and whose upper 3 say whether it is whole (0)
or the first (1), a middle (2) or the last part (3) of one, the data, and zeros up to a multiple of 4 bytes. Data that
holds the number itself at such a multiple is cut there, and the number left out. Numbers are little-endian (dmlc-core,
recordio.h). The data of a photo begins with MXNet's image header: how many labels follow it (0: the one in the header
counts), a label, and two identifiers. Records without a photo, such as the first and last ones of these sets, are
passed over. The `.idx` file is not needed.
"""

import os
import struct
from pathlib import Path
from typing import NamedTuple

from fra_dist.data.making.listing import ListedPhoto, Listing
from fra_dist.data.shards.samples import Skip
from fra_dist.errors import DataError
from fra_dist.files import failure, open_to_read

MAGIC = b"\x0a\x23\xd7\xce"
"""The number with which every record begins, as bytes."""
_PART = struct.Struct("<4sI")
_HEADER = struct.Struct("<IfQQ")
_LENGTH = (1 << 29) - 1
_SEARCH = 1 << 20


class _Record(NamedTuple):
    """Byte and length of its data in the file; places in that of 4 bytes that are not part of it; what comes next."""

    start: int
    size: int
    drop: tuple[int, ...]
    next: int


def list_records(path: Path) -> Listing:
    """Every photo of a file, named `LABEL/NUMBER`: its first label, and its record's number among the readable ones,
    from 0.

    A damaged place is named, and reading resumes at the next whole record. Raises DataError when the file cannot be
    read.
    """
    photos, skipped, ignored = list[ListedPhoto](), list[Skip](), 0
    try:
        file = open_to_read(path)
    except OSError as error:
        raise failure(error, f"cannot read source {path}", DataError) from None
    try:
        at, number, end = 0, 0, os.fstat(file).st_size
        while at < end:
            record = _record(file, at, end)
            if record is None or _swallows(file, record, end):
                following = _resume(file, at + 4, end)
                skipped.append(Skip(path.name, f"damaged at byte {at}: {following - at} bytes passed over"))
                at = following
                continue
            photo = _photo(file, record, number)
            if photo is None:
                ignored += 1
            else:
                photos.append(photo)
            at, number = record.next, number + 1
    except OSError as error:
        raise failure(error, f"cannot read source {path}", DataError) from None
    finally:
        os.close(file)
    return Listing(photos, skipped, ignored)


def _record(file: int, at: int, end: int) -> _Record | None:
    """None where no whole record begins."""
    start, drop, kinds = at + _PART.size, list[int](), (0, 1)
    while True:
        head = os.pread(file, _PART.size, at)
        if len(head) < _PART.size or head[:4] != MAGIC:
            return None
        word = _PART.unpack(head)[1]
        kind, size = word >> 29, word & _LENGTH
        after = at + _PART.size + size
        if after > end or kind not in kinds:
            return None
        if kind in (0, 3):
            return _Record(start, after - start, tuple(drop), after + -size % 4)
        if size % 4:
            return None
        drop.append(after - start + 4)  # the number that begins the next part is data, the word after it is not
        at, kinds = after, (2, 3)


def _swallows(file: int, record: _Record, end: int) -> bool:
    """Whether a damaged length makes the record run over others: no record follows it, and one begins inside it."""
    if record.next >= end or os.pread(file, 4, record.next) == MAGIC:
        return False
    return _resume(file, record.start, record.next) < record.next


def _resume(file: int, at: int, end: int) -> int:
    """Byte of the next whole record before `end`, or `end`. One out of step with `at` (bytes were lost) counts when
    another follows it."""
    size, start = os.fstat(file).st_size, at
    while at < end:
        piece = os.pread(file, min(_SEARCH, end - at), at)
        found = piece.find(MAGIC)
        while found >= 0:
            place = at + found
            record = _record(file, place, size)
            if record is not None:
                follows = record.next >= size or os.pread(file, 4, record.next) == MAGIC
                if follows or (place - start) % 4 == 0:
                    return place
            found = piece.find(MAGIC, found + 1)
        at += max(1, len(piece) - 3) if at + len(piece) < end else end - at
    return end


def _photo(file: int, record: _Record, number: int) -> ListedPhoto | None:
    """None for a record without one."""
    head = os.pread(file, min(record.size, 4 * _HEADER.size), record.start)
    for place in reversed(record.drop):
        head = head[:place] + head[place + 4 :]
    if len(head) < _HEADER.size:
        return None
    labels, label, _, _ = _HEADER.unpack_from(head)
    begin = _HEADER.size + 4 * labels
    for place in record.drop:
        begin += 4 * (place <= begin)
    if begin >= record.size:
        return None
    if labels:
        (label,) = struct.unpack_from("<f", head, _HEADER.size)
    person = f"{int(label):07d}" if label == label and abs(label) < 1e9 and label == int(label) else "unlabelled"
    drop = tuple(place - begin for place in record.drop if place >= begin)
    return ListedPhoto(f"{person}/{number:09d}", record.size - begin, record.start + begin, drop)
