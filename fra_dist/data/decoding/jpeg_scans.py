"""Decides whether a JPEG is whole. `sealed` walks every scan to its end; decoders fill gaps with grey and say nothing.

Photos are judged by what a decoder needs, not by the marks around it: one that has no end mark, or that has something
else written after its last scan, is whole when every block of every scan is there, and gets its end mark.
"""

import re

import numpy as np
from numpy.typing import NDArray

from fra_dist.data.decoding import jpeg_entropy as entropy
from fra_dist.data.decoding.image_limits import BadImage
from fra_dist.data.decoding.jpeg_header import (
    Component,
    Foreign,
    Unfinished,
    Walk,
    ceil_div,
    read_frame,
    read_huffman,
    read_quantisation,
)
from fra_dist.data.decoding.jpeg_stuffing import PADDING, stuffed_length, unstuff

_END = b"\xff\xd9"
_NO_LENGTH = frozenset({0x01, *range(0xD0, 0xD9)})
_FRAMES = {0xC0: False, 0xC1: False, 0xC2: True}  # whether it is progressive
_OTHER_FRAMES = frozenset(range(0xC3, 0xD0)) - {0xC4, 0xC8, 0xCC}
_MARKER = re.compile(rb"\xff+([^\x00\xff])")
_WORDS = {
    entropy.SHORT: "truncated",
    entropy.BAD_CODE: "damaged: an impossible code in its data",
    entropy.EXTRA: "damaged: data left over behind its last block",
    entropy.RESTARTS: "damaged: its restart markers are out of order",
}


def sealed(data: bytes) -> bytes:
    """The bytes of a JPEG that is whole: those given, or, where the end mark is missing, the picture with one.

    Raises BadImage when a block is missing, or the data cannot be what an encoder wrote. Kinds of JPEG that this walk
    does not know (arithmetic coding, lossless, 12 bits) are returned unchecked.
    """
    walk = Walk(data, np.frombuffer(data, np.uint8), np.zeros((8, entropy.ROW), np.int32))
    try:
        _walk(walk)
    except Foreign:
        return data
    except Unfinished:
        if not walk.complete():
            raise BadImage("truncated") from None
        return data[: walk.end] + _END
    if not walk.complete():
        raise BadImage("truncated" if walk.components else "damaged header")
    return data


def _walk(walk: Walk) -> None:
    """Walk all segments up to the end mark."""
    data, at = walk.data, 2
    while True:
        found = _MARKER.match(data, at)
        if found is None:
            raise Unfinished
        marker, at = found[1][0], found.end()
        if marker == 0xD9:
            return
        if marker in _NO_LENGTH:
            if walk.complete():
                raise Unfinished
            continue
        length = int.from_bytes(data[at : at + 2], "big")
        if length < 2 or at + length > len(data):
            raise Unfinished
        body, at = data[at + 2 : at + length], at + length
        try:
            at = _segment(walk, marker, body, at)
        except (IndexError, KeyError, ValueError):
            if walk.complete():
                raise Unfinished from None
            raise BadImage("damaged header") from None


def _segment(walk: Walk, marker: int, body: bytes, at: int) -> int:
    """Byte at which the next marker is looked for."""
    if marker == 0xC4:
        read_huffman(walk, body)
    elif marker == 0xDB:
        read_quantisation(walk, body)
    elif marker == 0xDD:
        walk.restart = int.from_bytes(body[:2], "big")
    elif marker in _FRAMES and not walk.components:
        read_frame(walk, body, _FRAMES[marker])
    elif marker in _OTHER_FRAMES and not walk.components:
        raise Foreign
    elif marker == 0xDA:
        return _scan(walk, body, at)
    return at


def _scan(walk: Walk, body: bytes, at: int) -> int:
    count = body[0]
    chosen = [(walk.components[body[1 + 2 * i]], body[2 + 2 * i] >> 4, body[2 + 2 * i] & 15) for i in range(count)]
    first, last, step = body[1 + 2 * count], body[2 + 2 * count], body[3 + 2 * count]
    if not chosen or len(body) != 4 + 2 * count:
        raise ValueError
    if not walk.progressive:
        first, last, step = 0, 63, 0
    kind = _kind(walk, first, step >> 4)
    _need_band(kind, count, (first, last), (step >> 4, step & 15))
    _need_tables(walk, kind, chosen)
    next_byte = _entropy(walk, kind, chosen, (first, last, step & 15), at)
    for part, _, _ in chosen:
        part.bits[first : last + 1] = step & 15
    return next_byte


def _kind(walk: Walk, first: int, before: int) -> int:
    if not walk.progressive:
        return entropy.SEQUENTIAL
    if first == 0:
        return entropy.DC_REFINE if before else entropy.DC_FIRST
    return entropy.AC_REFINE if before else entropy.AC_FIRST


def _need_band(kind: int, count: int, span: tuple[int, int], bits: tuple[int, int]) -> None:
    """Raises ValueError for a band of coefficients that no progressive scan may have (T.81, table B.3, and G.1.1.1)."""
    if kind == entropy.SEQUENTIAL:
        return
    fits = span[1] == 0 if span[0] == 0 else count == 1 and span[0] <= span[1] <= 63
    if not fits or bits[1] > 13 or (bits[0] and bits[0] != bits[1] + 1):
        raise ValueError


def _need_tables(walk: Walk, kind: int, chosen: list[tuple[Component, int, int]]) -> None:
    dc, ac = kind in (entropy.SEQUENTIAL, entropy.DC_FIRST), kind not in (entropy.DC_FIRST, entropy.DC_REFINE)
    for part, first, second in chosen:
        if (dc and first not in walk.known) or (ac and 4 + second not in walk.known) or part.table not in walk.steps:
            raise ValueError


def _entropy(
    walk: Walk, kind: int, chosen: list[tuple[Component, int, int]], span: tuple[int, int, int], at: int
) -> int:
    """Walk the data of one scan; the byte behind them."""
    single = len(chosen) == 1
    total = chosen[0][0].width * chosen[0][0].height if single else walk.mcus
    layout = [i for i, (part, _, _) in enumerate(chosen) for _ in range(1 if single else part.across * part.down)]
    parts = np.array([(dc & 3, ac & 3, walk.steps[part.table]) for part, dc, ac in chosen], np.int64)
    capacity = (ceil_div(total, walk.restart) if walk.restart else 1) + 1
    if capacity > len(walk.data):  # each part takes two bytes at least
        raise BadImage("truncated")
    ends, numbers = np.zeros(capacity, np.int64), np.zeros(capacity, np.int64)
    out = np.zeros(len(walk.data) - at + PADDING, np.uint8)
    found, behind = unstuff(walk.bytes, at, out, ends, numbers)
    if found > capacity:
        raise BadImage(_WORDS[entropy.RESTARTS])
    ends, numbers = ends[:found], numbers[:found]
    is_open = walk.data.find(_END, behind) < 0
    result, pos = entropy.walk_scan(
        *(out, ends, numbers, kind, parts, np.array(layout), walk.restart, total),
        *(walk.tables, np.array(span, np.int64), chosen[0][0].masks, is_open),
    )
    if result != entropy.OK:
        raise BadImage(_WORDS[result])
    walk.end = _end_byte(walk, at, behind, ends, pos)
    return behind


def _end_byte(walk: Walk, at: int, behind: int, ends: NDArray[np.int64], pos: int) -> int:
    """Byte of the file after the block that ends at bit `pos` of the scan's unstuffed data."""
    if behind < len(walk.data):
        return behind
    start = at
    for _ in range(len(ends) - 1):  # over the restart markers
        found = re.compile(rb"\xff+[\xd0-\xd7]").search(walk.data, start)
        assert found is not None
        start = found.end()
    inside = (pos + 7) // 8 - (int(ends[-2]) if len(ends) > 1 else 0)
    return start + int(stuffed_length(walk.bytes, start, max(0, inside)))
