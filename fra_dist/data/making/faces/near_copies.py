"""Finds near-copies in a set: hashes within a few bits of each other, without comparing all pairs.

Cut hashes into k parts. Two that differ in at most t bits differ in at most floor(t / k) bits of one part (multi-index
hashing, Norouzi et al., CVPR 2012). With k > t / 2 that is one bit or none, so only hashes that agree in a part, or in
a part without one of its bits, must be compared: of photos of faces and 24 bits, one pair in 700.
"""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

Hashes = NDArray[np.uint8]
"""Hashes (N, bytes), uint8; the number of bytes is a multiple of 8."""
Words = NDArray[np.uint64]
"""Hashes as uint64 words, or parts of them."""
Places = NDArray[np.int64]
"""Positions in a set of hashes, int64."""

_LEAST_PARTS = 8  # of 32 bits in 256: a part and the number of its hash fit into 64 bits
_PAIRS = 1 << 20  # compared at a time


def find_copies(hashes: Hashes, bits: int) -> Places:
    """For each hash (N,) the first kept one before it at most `bits` bits away, or -1 where the hash is kept itself.

    Hashes come in the order of preference: the first of a group of copies stays.
    """
    unique, inverse = _exact(hashes)
    of = np.full(len(unique), -1, np.int64)
    for earlier, later in _near_pairs(_words(hashes[unique]), bits):  # by the later, then by the earlier
        if of[later] < 0 and of[earlier] < 0:
            of[later] = earlier
    out = np.where(of[inverse] < 0, unique[inverse], unique[of[inverse]])
    out[out == np.arange(len(hashes))] = -1
    return out


def nearest_within(hashes: Hashes, others: Hashes, bits: int) -> Places:
    """For each hash (N,) the position of the first of `others` at most `bits` bits away, or -1."""
    none = len(others)
    found = np.full(len(hashes), none, np.int64)
    mine, theirs = _words(hashes), _words(others)
    for here, there in zip(_parts(mine, bits), _parts(theirs, bits), strict=True):
        order = np.argsort(there, kind="stable")
        low, high = np.searchsorted(there[order], here, "left"), np.searchsorted(there[order], here, "right")
        at = np.flatnonzero(low < high)
        while at.size:
            other = order[low[at]]
            close = _distance(mine, at, theirs, other) <= bits
            np.minimum.at(found, at[close], other[close])
            low[at] += 1
            at = at[low[at] < high[at]]
    found[found == none] = -1
    return found


def _words(hashes: Hashes) -> Words:
    return np.ascontiguousarray(hashes).view(np.uint64)


def _exact(hashes: Hashes) -> tuple[Places, Places]:
    """(first place of each different hash in order of appearance, for each hash the number of its own)."""
    whole = np.ascontiguousarray(hashes).view([("", hashes.dtype)] * hashes.shape[1]).ravel()
    _, first, inverse = np.unique(whole, return_index=True, return_inverse=True)
    order = np.argsort(first)
    rank = np.empty_like(order)
    rank[order] = np.arange(len(order))
    return first[order].astype(np.int64), rank[inverse.ravel()].astype(np.int64)


def _near_pairs(words: Words, bits: int) -> Iterator[tuple[int, int]]:
    """Pairs (earlier, later) at most `bits` apart, each once, sorted by the later and then by the earlier."""
    found = np.zeros(0, np.uint64)
    for part in _parts(words, bits):
        close = [found]
        for first, second in _equal_pairs(part):
            near = _distance(words, first, words, second) <= bits
            close.append(second[near].astype(np.uint64) << np.uint64(32) | first[near].astype(np.uint64))
        if len(close) > 1:
            found = np.unique(np.concatenate(close))
    for pair in found:
        yield int(pair & np.uint64(0xFFFFFFFF)), int(pair >> np.uint64(32))


def _parts(words: Words, bits: int) -> Iterator[Words]:
    """Numbers (N,) below 2^32, of which two hashes at most `bits` apart have at least one in common."""
    length = 64 * words.shape[1]
    parts = max(_LEAST_PARTS, bits // 2 + 1)
    for part in range(parts):
        places = range(part, length, parts)  # neighbouring bits are alike, so they go into different parts
        number = np.zeros(len(words), np.uint64)
        for place in places:
            number = number << np.uint64(1) | (words[:, place // 64] >> np.uint64(place % 64)) & np.uint64(1)
        if bits < parts:
            yield number
        else:
            yield from (number & ~(np.uint64(1) << np.uint64(n)) for n in range(len(places)))


def _equal_pairs(numbers: Words) -> Iterator[tuple[Places, Places]]:
    """Places (earlier, later) of equal numbers, every pair once, in pieces."""
    packed = np.sort(numbers << np.uint64(32) | np.arange(len(numbers), dtype=np.uint64))
    place, number = (packed & np.uint64(0xFFFFFFFF)).astype(np.int64), packed >> np.uint64(32)
    at, apart = np.arange(len(packed)), 0
    while at.size:
        for piece in np.array_split(at, -(-at.size // _PAIRS)) if apart else ():
            yield place[piece], place[piece + apart]
        apart += 1
        at = at[at + apart < len(packed)]
        at = at[number[at] == number[at + apart]]


def _distance(some: Words, at: Places, others: Words, there: Places) -> NDArray[np.int64]:
    return np.bitwise_count(some[at] ^ others[there]).sum(axis=1, dtype=np.int64)
