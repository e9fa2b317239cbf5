"""Simple readers of frozen features: what a linear map or the nearest neighbours make of them.

Every probe is fitted on a training part, its one free number is chosen on a validation part, and the test part is
read once. X are features (n, d), Y targets (n, k), labels (n,) integers.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fra_dist.eval.scores.metrics import accuracy

Floats = NDArray[np.float64]
Labels = NDArray[np.int64]
RIDGES = tuple(10.0**power for power in range(-3, 4))
"""Strengths of the regularisation, as multiples of the mean eigenvalue of the features' second moments."""
NEIGHBOURS = (1, 5, 10, 20)
TEMPERATURE = 0.07
"""Of the neighbours' votes, exp(cosine / TEMPERATURE), as in Wu et al. 2018."""


@dataclass(frozen=True)
class Split:
    """Places of the photos in the three parts, which share none."""

    train: Labels
    validation: Labels
    test: Labels

    def of(self, values: NDArray[np.generic]) -> tuple[NDArray, NDArray, NDArray]:  # type: ignore[type-arg]
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


class RidgePath:
    """Ridge regression for every strength from one eigen-decomposition, of the smaller of the two Gram matrices.

    Features are standardised with the training part's mean and deviation, targets centred with its mean.
    """

    def __init__(self, features: NDArray[np.floating], targets: Floats) -> None:
        rows = np.asarray(features, np.float64)
        self.mean, deviation = rows.mean(0), rows.std(0)
        self.scale = np.where(
            deviation > 1e-7 * deviation.max(initial=1e-30), deviation, np.inf
        )  # constants say nothing
        self.offset = targets.mean(0)
        x, y = (rows - self.mean) / self.scale, targets - self.offset
        self.wide = x.shape[1] > x.shape[0]
        self.x = x
        values, self.basis = np.linalg.eigh(x @ x.T if self.wide else x.T @ x)
        self.values = np.maximum(values, 0.0)
        self.unit = max(float(self.values.mean()), 1e-12)
        self.projected = self.basis.T @ (y if self.wide else x.T @ y)

    def weights(self, strength: float) -> Floats:
        """(d, k) for standardised features."""
        found = self.basis @ (self.projected / (self.values + strength * self.unit)[:, None])
        return self.x.T @ found if self.wide else found

    def predict(self, features: NDArray[np.floating], strength: float) -> Floats:
        return (np.asarray(features, np.float64) - self.mean) / self.scale @ self.weights(strength) + self.offset


def linear_probe(
    features: NDArray[np.floating], targets: Floats, split: Split, score: Callable[[Floats, Labels], float]
) -> Floats:
    """Predictions (n_test, k) of the ridge regression whose `score(predictions, places)` on validation is largest."""
    path = RidgePath(features[split.train], targets[split.train])
    rated = [(score(path.predict(features[split.validation], r), split.validation), r) for r in RIDGES]
    best = max(rated, key=lambda pair: (pair[0], pair[1]))[1]  # of equals, the stronger
    return path.predict(features[split.test], best)


def linear_classifier(features: NDArray[np.floating], labels: Labels, split: Split) -> Labels:
    """Labels (n_test,) by ridge regression onto one-hot targets, the largest output winning."""
    names = np.unique(labels[split.train])
    targets = (labels[:, None] == names).astype(np.float64)
    found = linear_probe(features, targets, split, lambda out, at: accuracy(names[out.argmax(1)], labels[at]))
    return names[found.argmax(1)]


def nearest_neighbours(features: NDArray[np.floating], labels: Labels, split: Split) -> Labels:
    """Labels (n_test,) by the votes of the nearest training photos in cosine, weighted by their closeness."""
    centre = features[split.train].mean(0)
    unit = np.asarray(features, np.float64) - centre
    unit /= np.maximum(np.linalg.norm(unit, axis=1, keepdims=True), 1e-12)
    names, known = np.unique(labels[split.train], return_inverse=True)

    def vote(places: Labels, count: int) -> Labels:
        cosine = unit[places] @ unit[split.train].T
        count = min(count, cosine.shape[1])
        near = np.argpartition(-cosine, count - 1, axis=1)[:, :count]
        weight = np.exp((np.take_along_axis(cosine, near, 1) - 1) / TEMPERATURE)
        votes = np.zeros((len(places), len(names)))
        np.add.at(votes, (np.arange(len(places))[:, None], known[near]), weight)
        return names[votes.argmax(1)]

    rated = [accuracy(vote(split.validation, count), labels[split.validation]) for count in NEIGHBOURS]
    return vote(split.test, NEIGHBOURS[int(np.argmax(rated))])
