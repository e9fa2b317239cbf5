"""Random numbers from counters: the same key gives the same number in any process, order, thread or numpy version.

The mixing function is the finaliser of SplitMix64 (Steele, Lea, Flood: Fast splittable pseudorandom number
generators, OOPSLA 2014), chained over the parts of a key. Only integer arithmetic modulo 2^64 is used, so nothing
depends on the bit streams of `numpy.random`.
"""

import numpy as np
from numpy.typing import ArrayLike, NDArray

U64 = NDArray[np.uint64]
"""A numpy array of unsigned 64-bit words."""

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_M1, _M2 = np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)
_S30, _S27, _S31, _S11 = np.uint64(30), np.uint64(27), np.uint64(31), np.uint64(11)


def mix(x: U64) -> U64:
    """Scramble 64-bit words elementwise, one to one."""
    with np.errstate(over="ignore"):
        x = (x ^ (x >> _S30)) * _M1
        x = (x ^ (x >> _S27)) * _M2
    return x ^ (x >> _S31)


def key(*parts: ArrayLike) -> U64:
    """Hash integers, or broadcastable arrays of them, to 64-bit words. The order of the parts matters."""
    state = np.zeros(1, np.uint64)
    for part in parts:
        words = np.atleast_1d(np.asarray(part)).astype(np.int64).view(np.uint64)
        with np.errstate(over="ignore"):
            state = mix((state + _GOLDEN) ^ mix(words + _GOLDEN))
    return state


def uniform(words: U64) -> NDArray[np.float64]:
    """Turn hashed words into doubles in [0, 1), using the top 53 bits of each."""
    return (words >> _S11).astype(np.float64) * 2.0**-53


def permute(index: ArrayLike, size: ArrayLike, keys: ArrayLike, rounds: int = 4) -> NDArray[np.int64]:
    """Where keyed permutations of range(size) send each index; all three broadcast to one shape.

    A Feistel network with modular addition on a grid of a x b >= size cells; a result outside range(size) is sent
    round again until it falls inside (cycle walking: Black and Rogaway, Ciphers with arbitrary finite domains, 2002).
    Constant memory and about constant time per index, whatever the size.
    """
    index, size, keys = np.broadcast_arrays(np.atleast_1d(index), np.atleast_1d(size), np.atleast_1d(keys))
    x, n, k = index.astype(np.uint64), size.astype(np.uint64), keys.astype(np.uint64)
    a = np.sqrt(n.astype(np.float64)).astype(np.uint64) + np.uint64(1)
    b = (n + a - np.uint64(1)) // a
    todo = np.arange(x.size)
    while todo.size:
        x[todo] = _feistel(x[todo], a[todo], b[todo], k[todo], rounds)
        todo = todo[x[todo] >= n[todo]]
    return x.astype(np.int64)


def _feistel(x: U64, a: U64, b: U64, k: U64, rounds: int) -> U64:
    left, right = x // b, x % b
    with np.errstate(over="ignore"):
        for _ in range(rounds):
            k = k + _GOLDEN
            left = (left + mix(right ^ k) % a) % a
            k = k + _GOLDEN
            right = (right + mix(left ^ k) % b) % b
    return left * b + right
