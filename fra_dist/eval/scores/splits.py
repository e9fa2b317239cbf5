"""Splits of labelled photos into training, validation and test, with no person in two parts."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Labels = NDArray[np.int64]


@dataclass(frozen=True)
class Split:
    """Indices of the photos in the three parts, each ascending; no photo is in two of them."""

    train: Labels
    """Of training photos."""
    validation: Labels
    """Of photos for choosing among settings."""
    test: Labels
    """Of photos for the final score."""


def split_by(groups: Labels, seed: int = 0, shares: tuple[float, float] = (0.6, 0.15)) -> Split:
    """Divide photos into training, validation and test so that each person is in one part only.

    Args:
        groups: (N,) number of the person of each photo, or of any group that must stay together.
        seed: of the order in which people are dealt out.
        shares: of the people, for training and for validation; the rest are for testing.
    """
    names = np.random.default_rng(seed).permutation(np.unique(groups))
    first, second = round(shares[0] * len(names)), round((shares[0] + shares[1]) * len(names))
    parts = (names[:first], names[first:second], names[second:])
    return Split(*(np.flatnonzero(np.isin(groups, part)) for part in parts))
