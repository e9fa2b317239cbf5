"""Readers of frozen features, fitted on a training part and chosen on a validation part.

No function here ever sees the test part: it gets two `Part`s and returns what answers for features that come later.
X are features (n, d); targets are labels (n,) of classes, signs (n, A) in {0, 1} with -1 for unknown, or values (n, k).
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

Array = NDArray[np.floating]
Outputs = NDArray[np.float64]
RIDGES = tuple(10.0**power for power in range(-3, 4))
"""Strengths of the ridge regression, as multiples of the mean eigenvalue of the features' second moments."""
NEIGHBOURS = (1, 5, 10, 20)
TEMPERATURE = 0.07
"""Of the neighbours' votes, exp(cosine / TEMPERATURE), as in Wu et al. 2018."""
DECAYS = tuple(10.0**power for power in range(-6, 1))
"""Weight decays that the logistic readers try, for features of unit mean square length: loss + decay/2 · |W|²."""
LARGEST_GRAM = 8192
"""Largest matrix of the closed form: more features and examples than this are projected at random to this many
features."""


@dataclass(frozen=True)
class Part:
    """The features and targets of one part of a data set."""

    features: Array
    """(n, d) features."""
    targets: NDArray[np.generic]
    """Labels (n,) of classes, signs (n, A) in {0, 1} with -1 for unknown, or values (n, k)."""


@dataclass(frozen=True)
class Reader:
    """A reader that has been fitted to frozen features: its prediction function, and the setting that was chosen."""

    answer: Callable[[Array], Outputs]
    """Outputs (n, k) for features (n, d): scores of classes, logits of attributes, or values."""
    chosen: float
    """The strength or number of neighbours that the validation part chose."""


T = TypeVar("T")


class Sealed(Generic[T]):
    """The test part of a task. It opens once: whatever is answered must have been fitted before."""

    def __init__(self, content: T) -> None:
        self._content: T | None = content

    def open(self) -> T:
        """The content, once. Raises RuntimeError when it has been opened before."""
        if self._content is None:
            raise RuntimeError("the test part has been used already: fit and choose everything before opening it")
        content, self._content = self._content, None
        return content


def fit_ridge(train: Part, validation: Part, score: Callable[[Outputs], float]) -> Reader:
    """Ridge regression onto `train.targets` as numbers; `score(outputs)` of the validation part chooses the strength.

    With more than LARGEST_GRAM features and examples, features are projected at random first (Johnson and
    Lindenstrauss): the closed form needs the eigenvalues of a matrix of the smaller number.
    """
    project = _projection(train.features)
    scaling, x = Scaling.fit(train.features, project)
    held = scaling(validation.features)
    targets = np.asarray(train.targets, np.float64)
    offset = targets.mean(0)
    wide = x.shape[1] > x.shape[0]
    values, basis = np.linalg.eigh((x @ x.T if wide else x.T @ x).astype(np.float64))
    values = np.maximum(values, 0.0)
    unit = max(float(values.mean()), 1e-12)
    projected = basis.T @ ((targets - offset) if wide else x.T @ (targets - offset))
    near = (held @ x.T if wide else held).astype(np.float64)  # once for all strengths

    def inner(strength: float) -> Outputs:
        return basis @ (projected / (values + strength * unit)[:, None])

    best = max(RIDGES, key=lambda r: (score(near @ inner(r) + offset), r))  # of equals, the stronger
    weights = (x.T @ inner(best) if wide else inner(best)).astype(np.float32)

    def answer(features: Array) -> Outputs:
        found = scaling(features) @ weights
        return found.astype(np.float64) + offset

    return Reader(answer, best)


def fit_logistic(train: Part, validation: Part, score: Callable[[Outputs], float], classes: int) -> Reader:
    """Multinomial (targets (n,)) or binary (targets (n, A)) logistic regression by L-BFGS, from strong decay to weak.

    `score(outputs)` of the validation part chooses the decay.
    """
    scaling, known = Scaling.fit(train.features)
    rows, held = torch.from_numpy(known), torch.from_numpy(scaling(validation.features))
    targets = torch.from_numpy(np.asarray(train.targets))
    weights = torch.zeros(rows.shape[1] + 1, classes)
    rated: list[tuple[float, float, Tensor]] = []
    for decay in sorted(DECAYS, reverse=True):
        weights = _minimise(rows, targets, weights, decay)
        rated.append((score(_apply(held, weights).double().numpy()), decay, weights.clone()))
    best = max(rated, key=lambda item: (item[0], item[1]))
    return Reader(lambda x: _apply(torch.from_numpy(scaling(x)), best[2]).double().numpy(), best[1])


def fit_neighbours(train: Part, validation: Part, score: Callable[[Outputs], float], classes: int) -> Reader:
    """Votes of the nearest training faces in cosine about the training mean, weighted by exp(cosine / 0.07).

    `score(outputs)` of the validation part chooses how many neighbours vote.
    """
    mean = np.asarray(train.features, np.float64).mean(0)
    known, labels = _unit(train.features, mean), np.asarray(train.targets, np.int64)

    def votes(features: Array, count: int) -> Outputs:
        out = np.zeros((len(features), classes))
        for start in range(0, len(features), 1024):
            cosine = _unit(features[start : start + 1024], mean) @ known.T
            taken = min(count, cosine.shape[1])
            near = np.argpartition(-cosine, taken - 1, axis=1)[:, :taken]
            weight = np.exp((np.take_along_axis(cosine, near, 1) - 1) / TEMPERATURE)
            np.add.at(out[start : start + 1024], (np.arange(len(near))[:, None], labels[near]), weight)
        return out

    best = max(NEIGHBOURS, key=lambda count: score(votes(validation.features, count)))
    return Reader(lambda x: votes(x, best), float(best))


def _minimise(rows: Tensor, targets: Tensor, start: Tensor, decay: float, iterations: int = 100) -> Tensor:
    weights = start.clone().requires_grad_(True)
    optimiser = torch.optim.LBFGS([weights], max_iter=iterations, history_size=10, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimiser.zero_grad()
        logits = _apply(rows, weights)
        if targets.dim() == 1:
            loss = functional.cross_entropy(logits, targets)
        else:
            known = (targets >= 0).float()
            each = functional.binary_cross_entropy_with_logits(logits, targets.clamp(min=0).float(), reduction="none")
            loss = (each * known).sum() / known.sum().clamp(min=1)
            loss = loss * targets.shape[1]  # the attributes are problems of their own: each keeps its own decay
        loss = loss + decay / 2 * weights[:-1].square().sum()
        loss.backward()
        return loss

    optimiser.step(closure)  # type: ignore[no-untyped-call]
    return weights.detach()


def _apply(rows: Tensor, weights: Tensor) -> Tensor:
    return rows @ weights[:-1] + weights[-1]


@dataclass(frozen=True)
class Scaling:
    """Makes features (m, d) standard by the mean and deviation of training examples, within their range.

    A feature that few training examples show, as rectified ones of a map are, has a small deviation there. An example
    that shows it would be read by that feature alone; cut to the range, it counts as the most that any of them shows.
    """

    low: Array
    """(d,) the least value of each feature among the training examples."""
    high: Array
    """(d,) the largest."""
    project: Callable[[Array], Array]
    """What happens to features once they are cut."""
    mean: Array
    """Of the projected features, as is `scale`: their deviation times the root of their number."""
    scale: Array

    @classmethod
    def fit(cls, features: Array, project: Callable[[Array], Array] = lambda x: x) -> tuple["Scaling", Array]:
        """The scaling of training examples (n, d), and these as it makes them, fp32."""
        rows = np.asarray(features, np.float32)
        low, high = rows.min(0), rows.max(0)
        rows = project(rows)
        deviation = rows.std(0)
        scale = np.where(deviation > 1e-7 * deviation.max(initial=1e-30), deviation, np.inf)  # constants say nothing
        scaling = cls(low, high, project, rows.mean(0), scale * np.float32(np.sqrt(rows.shape[1])))
        return scaling, scaling._standard(rows - scaling.mean)

    def __call__(self, features: Array) -> Array:
        """Standard features (m, d) fp32, divided by the root of their number."""
        rows = self.project(np.asarray(features, np.float32).clip(self.low, self.high))
        rows -= self.mean
        return self._standard(rows)

    def _standard(self, centred: Array) -> Array:
        centred /= self.scale
        return centred


def _unit(features: Array, mean: Outputs) -> NDArray[np.float32]:
    rows = np.asarray(features, np.float64) - mean
    return (rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)).astype(np.float32)


def _projection(features: Array) -> Callable[[Array], Array]:
    count, width = features.shape
    if min(count, width) <= LARGEST_GRAM:
        return lambda x: x
    generator = np.random.default_rng(0)
    matrix = generator.standard_normal((width, LARGEST_GRAM), np.float32) / np.float32(np.sqrt(LARGEST_GRAM))
    return lambda x: np.asarray(x, np.float32) @ matrix
