"""Counter-based random numbers: what a seed draws depends on the seed alone, never on the batch it is drawn in."""

from collections.abc import Sequence

import numpy as np

_STEP = np.uint64(0x9E3779B97F4A7C15)


def _mix(z: np.ndarray) -> np.ndarray:
    """SplitMix64's finaliser (Steele, Lea and Flood, 2014) on uint64."""
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


def hashed(seeds: np.ndarray, stream: int) -> np.ndarray:
    """One uint64 (N,) for each int64 seed (N,); streams of different numbers are independent of one another."""
    with np.errstate(over="ignore"):
        offset = _mix(np.full(1, stream + 1, np.uint64) * _STEP)
        return _mix(_mix(seeds.astype(np.int64).view(np.uint64)) + offset)


def uniforms(seeds: np.ndarray, stream: int, count: int) -> np.ndarray:
    """Random numbers (N, count), float64 in [0, 1): row n depends on seed n alone. Streams are independent."""
    with np.errstate(over="ignore"):
        keys = hashed(seeds, stream)[:, None] + _STEP * np.arange(1, count + 1, dtype=np.uint64)
        return (_mix(keys) >> np.uint64(11)).astype(np.float64) * 2.0**-53


class Draws:
    """Hands out one row of `uniforms`, number by number, in various distributions."""

    def __init__(self, row: Sequence[float]) -> None:
        self._numbers = iter(row)

    def unit(self) -> float:
        """Take the next number of the row, uniform in [0, 1)."""
        return next(self._numbers)

    def between(self, low: float, high: float) -> float:
        """Draw a number that is uniform in [low, high)."""
        return low + (high - low) * self.unit()

    def near(self, middle: float, spread: float) -> float:
        """A bell-shaped number around `middle` with standard deviation `spread`, at most three of them away.

        It is a sum of three uniform numbers.
        """
        return middle + spread * 2.0 * (self.unit() + self.unit() + self.unit() - 1.5)

    def chance(self, probability: float) -> bool:
        """Draw True with the given probability (0 to 1), otherwise False."""
        return self.unit() < probability

    def pick(self, weights: Sequence[float]) -> int:
        """An index of `weights`, with chances in proportion to the weights."""
        left = self.unit() * sum(weights)
        for index, weight in enumerate(weights):
            left -= weight
            if left < 0:
                return index
        return len(weights) - 1
