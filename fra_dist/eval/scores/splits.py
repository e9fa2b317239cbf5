"""Splits of labelled photos into training, validation and test, with no person in two parts unless asked for."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Labels = NDArray[np.int64]


@dataclass(frozen=True)
class Split:
    """A split: places of the photos in the three parts, which share none."""

    train: Labels
    """Places of the training photos."""
    validation: Labels
    """Places of the validation photos."""
    test: Labels
    """Places of the test photos."""

    def of(self, values: NDArray[np.generic]) -> tuple[NDArray, NDArray, NDArray]:  # type: ignore[type-arg]
        """The rows of `values` in each of the three parts: training, validation, test."""
        return values[self.train], values[self.validation], values[self.test]


def split_by(groups: Labels, seed: int = 0, shares: tuple[float, float] = (0.6, 0.15)) -> Split:
    """Share out whole groups (people): about 60 % of them to train, 15 % to validation, the others to test."""
    names = np.random.default_rng(seed).permutation(np.unique(groups))
    first, second = round(shares[0] * len(names)), round((shares[0] + shares[1]) * len(names))
    parts = (names[:first], names[first:second], names[second:])
    return Split(*(np.flatnonzero(np.isin(groups, part)) for part in parts))


def split_within(groups: Labels, seed: int = 0) -> Split:
    """Share out the photos of each person with 3 or more: a quarter to test, another to validation, at least 1 each."""
    train, validation, test = [], [], []
    generator = np.random.default_rng(seed)
    for name in np.unique(groups):
        places = generator.permutation(np.flatnonzero(groups == name))
        if len(places) >= 3:
            quarter = max(1, len(places) // 4)
            test.append(places[:quarter])
            validation.append(places[quarter : 2 * quarter])
            train.append(places[2 * quarter :])
    return Split(*(np.sort(np.concatenate([np.zeros(0, np.int64), *part])) for part in (train, validation, test)))
