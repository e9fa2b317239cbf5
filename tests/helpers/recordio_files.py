"""Photos written as MXNet RecordIO, the way the sets come: a header record, photos, and a record a person."""

import struct
from collections.abc import Iterable

MAGIC = 0xCED7230A


def record(data: bytes) -> bytes:
    """As dmlc-core writes it: cut where the magic number stands at a multiple of 4 bytes."""
    magic, out, begin = struct.pack("<I", MAGIC), b"", 0
    for at in range(0, len(data) - len(data) % 4, 4):
        if data[at : at + 4] == magic:
            out += magic + struct.pack("<I", (2 if begin else 1) << 29 | at - begin) + data[begin:at]
            begin = at + 4
    last = data[begin:]
    whole = not out
    return out + magic + struct.pack("<I", (0 if whole else 3) << 29 | len(last)) + last + bytes(-len(last) % 4)


def photo(data: bytes, number: int, *labels: float) -> bytes:
    if len(labels) == 1:
        return record(struct.pack("<IfQQ", 0, labels[0], number, 0) + data)
    return record(struct.pack("<IfQQ", len(labels), 0, number, 0) + struct.pack(f"<{len(labels)}f", *labels) + data)


def face_set(photos: Iterable[tuple[int, bytes]]) -> bytes:
    """`train.rec` of (person, JPEG): the first record counts, and the last ones say which records a person has."""
    photos = list(photos)
    count, people = len(photos), {person for person, _ in photos}
    out = photo(b"", 0, float(count + 1), float(count + 1 + len(people)))
    out += b"".join(photo(data, n, float(person)) for n, (person, data) in enumerate(photos, 1))
    return out + b"".join(photo(b"", count + 1 + n, 1.0, 2.0) for n in range(len(people)))
