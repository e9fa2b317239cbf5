"""Shares of the labels, such as 1, 10 or 100 % of them, drawn several times."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from fra_dist.errors import DataError

Places = NDArray[np.int64]


def draw_classes(labels: NDArray[np.int64], percent: float, seed: int, names: Sequence[str], least: int = 0) -> Places:
    """Places of `percent` of each class, rounded, with at least `least` of each.

    Raises DataError that names a class which would have no examples left.
    """
    if percent >= 100:
        return np.arange(len(labels))
    generator = np.random.default_rng([seed, round(percent * 1000)])
    chosen = []
    for label in np.unique(labels):
        members = generator.permutation(np.flatnonzero(labels == label))
        count = max(int(len(members) * percent / 100 + 0.5), least)
        if not count:
            raise DataError(
                f"class {names[int(label)]!r} has {len(members)} training faces and none in {percent:g} % of the "
                f"labels: use --labels {50 / len(members):.2g} or more"
            )
        chosen.append(members[:count])
    return np.sort(np.concatenate(chosen))


def draw_rows(signs: NDArray[np.int64], percent: float, seed: int, names: Sequence[str], check: bool = True) -> Places:
    """Places of `percent` of the rows of signs (n, A), where -1 is unknown.

    Raises DataError (unless `check` is False) that names an attribute which no chosen row has, or every one has.
    """
    count = max(1, round(len(signs) * percent / 100)) if percent < 100 else len(signs)
    chosen = np.sort(np.random.default_rng([seed, round(percent * 1000)]).permutation(len(signs))[:count])
    for column, name in enumerate(names):
        for value, word in ((1, "with"), (0, "without")):
            if check and not (signs[chosen, column] == value).any():
                raise DataError(
                    f"no face {word} {name!r} among the {count} of {percent:g} % of the labels: use a larger --labels"
                )
    return chosen
