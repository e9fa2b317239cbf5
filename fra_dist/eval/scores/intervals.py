"""Scores with 95 % bootstrap intervals.

Every score is a function of weights (n,) of the test examples: with ones it is the score itself, and with the counts of
a resampling with replacement (Efron 1979) it is one bootstrap draw. Where people are known, people are drawn, since
photos of one person are not independent. The interval is from the 2.5 to the 97.5 percentile of the draws.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]
Statistic = Callable[[Floats], float]
DRAWS = 1000
LEVEL = 0.95


@dataclass(frozen=True)
class Score:
    """A measured value with the bootstrap interval of its sampling error."""

    value: float
    """The score itself."""
    low: float
    """Lower end of the interval; NaN without draws."""
    high: float
    """Upper end of the interval; NaN without draws."""
    count: int
    """Number of test examples behind it."""
    higher_is_better: bool = True
    """Whether a larger value is better."""
    drawn: tuple[float, ...] = field(default=(), repr=False, compare=False)
    """The score of each bootstrap draw, NaN where it is undefined. Two networks that were measured on the same test
    part with the same seed share their draws, so that their difference has an interval, too."""

    def to_json(self) -> dict[str, Any]:
        """The score and its interval as plain values, without the draws; numbers that are not finite as null."""
        told = {key: value for key, value in self.__dict__.items() if key != "drawn"}
        return {key: None if isinstance(v, float) and not math.isfinite(v) else v for key, v in told.items()}

    def __str__(self) -> str:
        return f"{self.value:.4f} [{self.low:.4f}, {self.high:.4f}]"


def with_interval(
    statistic: Statistic,
    count: int,
    people: NDArray[np.int64] | None = None,
    seed: int = 0,
    higher_is_better: bool = True,
    draws: int = DRAWS,
) -> Score:
    """The score of `count` examples and its interval. Draws on which the score is undefined (NaN) are left out.

    people: (count,) a number for each example's person; people are then resampled in place of examples.
    """
    value = float(statistic(np.ones(count)))
    groups = np.arange(count) if people is None else np.unique(people, return_inverse=True)[1]
    number = int(groups.max()) + 1 if count else 0
    drawn = [float(statistic(weights[groups].astype(np.float64))) for weights in _resamplings(number, seed, draws)]
    known = [one for one in drawn if math.isfinite(one)]
    tail = 50 * (1 - LEVEL)
    low, high = np.percentile(known, [tail, 100 - tail]) if known else (math.nan, math.nan)
    return Score(value, float(low), float(high), count, higher_is_better, tuple(drawn))


@lru_cache(maxsize=8)
def _resamplings(number: int, seed: int, draws: int) -> NDArray[np.uint16]:
    """(draws, number): how often each is drawn; all scores of a test part share them."""
    if not number or not draws:
        return np.zeros((0, 0), np.uint16)
    generator = np.random.default_rng(seed)
    rows = (np.bincount(generator.integers(0, number, number), minlength=number) for _ in range(draws))
    return np.stack([row.astype(np.uint16) for row in rows])


def mean_of(values: ArrayLike) -> Statistic:
    """The weighted mean of values (n,), or of the mean over the rows of (draws, n), as a function of the weights."""
    numbers = np.asarray(values, np.float64)
    numbers = numbers.mean(0) if numbers.ndim == 2 else numbers
    return lambda w: float(w @ numbers / w.sum())


def balanced(hits: ArrayLike, labels: ArrayLike) -> Statistic:
    """The mean over the classes of the share of each that was hit, as a function of the weights.

    hits: (n,) or (draws, n); labels: (n,).
    """
    found = np.asarray(hits, np.float64)
    found = found.mean(0) if found.ndim == 2 else found
    member = (np.asarray(labels)[:, None] == np.unique(np.asarray(labels))).astype(np.float64)

    def statistic(w: Floats) -> float:
        total = w @ member
        with np.errstate(invalid="ignore", divide="ignore"):
            return float(np.nanmean((w * found) @ member / total))

    return statistic


def area(outputs: ArrayLike, positive: ArrayLike) -> Statistic:
    """The area under the ROC curve, as a function of the weights: the chance that a positive scores above a negative.

    Ties count half.
    """
    order = np.argsort(np.asarray(outputs, np.float64), kind="stable")
    values, hit = np.asarray(outputs, np.float64)[order], np.asarray(positive, bool)[order]
    # ties: examples of equal output form one step
    step = np.cumsum(np.concatenate([[0], (np.diff(values) > 0).astype(np.int64)]))
    number = int(step[-1]) + 1 if len(step) else 0

    def statistic(w: Floats) -> float:
        weight = w[order]
        yes = np.bincount(step, weight * hit, number)
        no = np.bincount(step, weight * ~hit, number)
        below = np.cumsum(no) - no
        total = yes.sum() * no.sum()
        return float((yes * (below + no / 2)).sum() / total) if total else math.nan

    return statistic


def mean_statistic(statistics: list[Statistic]) -> Statistic:
    """The mean of several statistics, as a function of the weights; undefined ones are left out."""

    def statistic(w: Floats) -> float:
        values = np.array([one(w) for one in statistics])
        return float(np.nanmean(values)) if np.isfinite(values).any() else math.nan

    return statistic
