"""Near-copies in a set: which hashes lie within a few bits of each other, without comparing all pairs.

Hashes that differ in at most t bits agree in at least one of t + 1 parts, so only those that share a part are compared.
"""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

Hashes = NDArray[np.uint8]
"""(N, bytes)"""
_PAIRS = 4_000_000  # compared at a time


def find_copies(hashes: Hashes, bits: int) -> NDArray[np.int64]:
    """(N,): for each hash the first before it that is kept and at most `bits` away, or -1 where it is kept itself.

    Hashes come in the order of preference: the first of a group of copies stays.
    """
    unique, inverse = _exact(hashes)
    of = np.full(len(unique), -1, np.int64)
    near = _neighbours(hashes[unique], bits)
    for later in sorted(near):
        kept = [earlier for earlier in sorted(near[later]) if of[earlier] < 0]
        if kept:
            of[later] = kept[0]
    out = np.where(of[inverse] < 0, unique[inverse], unique[of[inverse]])
    out[out == np.arange(len(hashes))] = -1
    return out


def nearest_within(hashes: Hashes, others: Hashes, bits: int) -> NDArray[np.int64]:
    """(N,): for each hash the first of `others` at most `bits` away, or -1."""
    found = np.full(len(hashes), -1, np.int64)
    if not len(others) or not len(hashes):
        return found
    both = np.concatenate([others, hashes])
    for first, second in _candidates(both, bits):
        low, high = np.minimum(first, second), np.maximum(first, second)
        across = (low < len(others)) & (high >= len(others))
        low, high = low[across], high[across]
        close = _distance(both[low], both[high]) <= bits
        for earlier, later in zip(low[close].tolist(), (high[close] - len(others)).tolist(), strict=True):
            if found[later] < 0 or earlier < found[later]:
                found[later] = earlier
    return found


def _exact(hashes: Hashes) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """(first place of each different hash in order of appearance, for each hash the number of its own)."""
    words = np.ascontiguousarray(hashes).view([("", hashes.dtype)] * hashes.shape[1]).ravel()
    _, first, inverse = np.unique(words, return_index=True, return_inverse=True)
    order = np.argsort(first)
    rank = np.empty_like(order)
    rank[order] = np.arange(len(order))
    return first[order].astype(np.int64), rank[inverse.ravel()].astype(np.int64)


def _neighbours(hashes: Hashes, bits: int) -> dict[int, set[int]]:
    """For each place, the earlier ones within `bits`."""
    near: dict[int, set[int]] = {}
    for first, second in _candidates(hashes, bits):
        close = _distance(hashes[first], hashes[second]) <= bits
        for earlier, later in zip(first[close].tolist(), second[close].tolist(), strict=True):
            near.setdefault(later, set()).add(earlier)
    return near


def _candidates(hashes: Hashes, bits: int) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Pairs (earlier, later) that share one of bits + 1 parts, in pieces; a pair can come more than once."""
    for part in np.array_split(np.unpackbits(hashes, axis=1), bits + 1, axis=1):
        packed = np.packbits(part, axis=1)
        words = np.zeros((len(packed), -(-packed.shape[1] // 8) * 8), np.uint8)
        words[:, : packed.shape[1]] = packed
        order = np.lexsort(words.view(np.uint64).T[::-1])
        same = (packed[order][1:] == packed[order][:-1]).all(axis=1)
        for bucket in np.split(order, np.flatnonzero(~same) + 1):
            if len(bucket) > 1:
                yield from _pairs(np.sort(bucket))


def _pairs(members: NDArray[np.int64]) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    step = max(1, _PAIRS // len(members))
    for at in range(0, len(members), step):
        rows = members[at : at + step]
        first, second = np.meshgrid(rows, members[at:], indexing="ij")
        ordered = first < second
        yield first[ordered], second[ordered]


def _distance(first: Hashes, second: Hashes) -> NDArray[np.int64]:
    return np.bitwise_count(first ^ second).sum(axis=1, dtype=np.int64)
