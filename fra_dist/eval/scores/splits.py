"""How labelled photos are shared out to training, validation and test, people never in two parts."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Labels = NDArray[np.int64]


@dataclass(frozen=True)
class Split:
    """Places of the photos in the three parts, which share none."""

    train: Labels
    validation: Labels
    test: Labels


def split_by(groups: Labels, seed: int = 0, shares: tuple[float, float] = (0.6, 0.15)) -> Split:
    """Share out whole groups (people): about 60 % of them to train, 15 % to validation, the others to test."""
    names = np.random.default_rng(seed).permutation(np.unique(groups))
    first, second = round(shares[0] * len(names)), round((shares[0] + shares[1]) * len(names))
    parts = (names[:first], names[first:second], names[second:])
    return Split(*(np.flatnonzero(np.isin(groups, part)) for part in parts))
