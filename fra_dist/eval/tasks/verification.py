"""Verification: do two photos show one person?

The protocol of LFW: ten folds of pairs; the threshold on the cosine of two embeddings that is best on nine folds
decides the tenth. Two embeddings: as they are, and about the mean of the nine folds' photos (`centred`). Nothing is
trained.
TAR@FAR: the share of pairs of one person that are accepted at the threshold at which a share FAR of pairs of two is.
Sets with known people and no pairs of their own get seeded pairs of test faces, with no person in two folds.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from fra_dist.errors import CheckpointError, DataError
from fra_dist.eval import plots
from fra_dist.eval.datasets.common.labelled_face import Pair
from fra_dist.eval.scores.intervals import Floats, Score, Statistic, area, mean_of, with_interval
from fra_dist.eval.tasks.common import Places, TaskInput, TaskResult

RATES = (0.1, 0.01, 0.001)
"""False accept rates (FAR) at which the true accept rate (TAR) is given."""
FOLDS = 10
"""Folds of seeded pairs."""
PAIRS_A_FOLD = 300
"""Largest number of seeded pairs of each kind in a fold."""


def run(job: TaskInput) -> TaskResult:
    """Measure verification on the pairs of a set, or on seeded pairs of its test faces.

    Returns accuracy, area under the ROC curve and TAR at the FARs of RATES, for cosines (`cosine`) and centred cosines
    (`centred`); a rate that the number of pairs cannot resolve is left out. Raises DataError when the set has neither
    pairs nor known people, a pair names a photo that is missing, or a person is in two folds.
    """
    pairs = job.prepared.faces.pairs or tuple(seeded_pairs(job))
    _refuse_shared_people(job, pairs)
    rows = {record.name: n for n, record in enumerate(job.prepared.records)}
    lacking = [name for pair in pairs for name in (pair.first, pair.second) if name not in rows]
    if lacking:
        raise DataError(
            f"{job.prepared.faces.name}: {lacking[0]} is in a pair but not among the photos; is --limit set?"
        )
    places = np.array([(rows[pair.first], rows[pair.second]) for pair in pairs])
    same, folds = np.array([pair.same for pair in pairs]), np.array([pair.fold for pair in pairs])
    features = _embeddings(job)

    scores: dict[str, Score] = {}
    details: dict[str, object] = {"pairs": len(pairs), "folds": len(np.unique(folds))}
    curves = {}
    seed, draws = job.settings.seed, job.settings.bootstrap
    for name, centred in (("cosine", False), ("centred", True)):
        similarity = fold_similarities(features, places, folds, centred)
        hits, thresholds = fold_decisions(similarity, same, folds)
        by_fold = [float(hits[folds == fold].mean()) for fold in np.unique(folds)]
        scores[f"{name}/accuracy"] = with_interval(mean_of(hits), len(pairs), seed=seed, draws=draws)
        scores[f"{name}/auc"] = with_interval(area(similarity, same), len(pairs), seed=seed, draws=draws)
        for rate in RATES:
            if (~same).sum() * rate >= 1:
                scores[f"{name}/tar@far={rate:g}"] = with_interval(
                    accepted_at(similarity, same, rate), len(pairs), seed=seed, draws=draws
                )
        deviation = float(np.std(by_fold, ddof=1)) if len(by_fold) > 1 else 0.0
        details[name] = {"accuracy_by_fold": by_fold, "standard_deviation": deviation, "thresholds": thresholds}
        curves[name] = curve(similarity, same)
    return TaskResult("verification", _protocol(job), scores, tuple(scores), details, {"roc.png": plots.roc(curves)})


def fold_similarities(features: Floats, places: Places, folds: Places, centred: bool) -> Floats:
    """Cosine similarity of the embeddings of each pair, (n,) float64.

    Args:
        features: (N, D) embeddings of the photos.
        places: (n, 2) rows of the two photos of each pair.
        folds: (n,) fold of each pair.
        centred: subtract the mean embedding of the photos in the other folds' pairs first.
    """
    out = np.empty(len(places))
    for fold in np.unique(folds):
        here = folds == fold
        mean = features[np.unique(places[~here])].mean(0) if centred and (~here).any() else 0.0
        one, two = (_unit(features[places[here, side]] - mean) for side in (0, 1))
        out[here] = (one * two).sum(1)
    return out


def fold_decisions(similarity: Floats, same: NDArray[np.bool_], folds: Places) -> tuple[NDArray[np.bool_], list[float]]:
    """Decide the pairs of each fold by the threshold that is best on the other folds.

    similarity: (n,); same: (n,) whether a pair shows one person; folds: (n,). Returns (n,) bool, whether the decision
    is right, and the threshold of each fold, in ascending order of folds.
    """
    hits, thresholds = np.zeros(len(same), bool), []
    for fold in np.unique(folds):
        here = folds == fold
        others = ~here if (~here).any() else here
        threshold = best_threshold(similarity[others], same[others])
        hits[here] = (similarity[here] >= threshold) == same[here]
        thresholds.append(threshold)
    return hits, thresholds


def best_threshold(similarity: Floats, same: NDArray[np.bool_]) -> float:
    """Return the threshold at which `similarity >= threshold` is most often right about `same`.

    similarity, same: (n,). It lies half-way between two neighbouring similarities; the lowest of equally good ones is
    taken.
    """
    order = np.argsort(similarity)
    values, hit = similarity[order], same[order]
    right = np.concatenate([[0], np.cumsum(~hit)]) + np.concatenate([np.cumsum(hit[::-1])[::-1], [0]])
    edges = np.concatenate([[values[0] - 1e-6], (values[1:] + values[:-1]) / 2, [values[-1] + 1e-6]])
    free = np.concatenate([[True], values[1:] > values[:-1], [True]])  # no threshold fits between equal values
    return float(edges[np.argmax(np.where(free, right, -1))])


def accepted_at(similarity: Floats, same: NDArray[np.bool_], rate: float) -> Statistic:
    """Return the statistic TAR@FAR: the weighted share of true pairs accepted at the largest FAR not above `rate`.

    similarity, same: (n,), by pair. The statistic is NaN when the weights leave no pair of one kind.
    """
    order = np.argsort(-similarity, kind="stable")
    values, hit = similarity[order], same[order]
    last = np.concatenate([values[1:] < values[:-1], [True]])  # a threshold takes all pairs of one value or none

    def statistic(weights: Floats) -> float:
        w = weights[order]
        yes, no = np.cumsum(w * hit), np.cumsum(w * ~hit)
        if not yes[-1] or not no[-1]:
            return float("nan")
        fits = last & (no / no[-1] <= rate + 1e-12)
        return float(yes[fits][-1] / yes[-1]) if fits.any() else 0.0

    return statistic


def curve(similarity: Floats, same: NDArray[np.bool_]) -> tuple[Floats, Floats]:
    """ROC curve of pairs: (n + 1,) FAR and (n + 1,) TAR at every threshold, from none accepted to all.

    similarity, same: (n,), by pair.
    """
    hit = same[np.argsort(-similarity, kind="stable")]
    false, true = np.cumsum(~hit) / max((~hit).sum(), 1), np.cumsum(hit) / max(hit.sum(), 1)
    return np.concatenate([[0.0], false]), np.concatenate([[0.0], true])


def seeded_pairs(job: TaskInput) -> list[Pair]:
    """Draw pairs of test faces for a set that has known people and no pairs of its own.

    People are divided into FOLDS folds (fewer below 20 people). A fold has as many pairs of one person as of two, at
    most PAIRS_A_FOLD of each; the settings' seed draws them. Raises DataError when people are not known or too few.
    """
    prepared = job.prepared
    test = prepared.places("test")
    people = prepared.people(test)
    if people is None or any(prepared.records[n].identity is None for n in test):
        raise DataError(f"{prepared.faces.name} has neither pairs nor known people: this task needs them")
    generator = np.random.default_rng(job.settings.seed)
    everybody = generator.permutation(np.unique(people))
    folds = min(FOLDS, len(everybody) // 2)  # a fold needs two people
    if folds < 2:
        raise DataError(f"{prepared.faces.name}: the test part has {len(everybody)} people; pairs need 4 or more")
    groups = np.array_split(everybody, folds)
    pairs = []
    for fold, members in enumerate(groups):
        inside = test[np.isin(people, members)]
        names = [prepared.records[n].name for n in inside]
        who = np.array([prepared.records[n].identity for n in inside])
        first, second = np.triu_indices(len(inside), 1)
        same = who[first] == who[second]
        count = min(int(same.sum()), int((~same).sum()), PAIRS_A_FOLD)
        if not count:
            raise DataError(
                f"{prepared.faces.name}: too few people or photos in the test part for {folds} folds of pairs"
            )
        for kind in (True, False):
            for k in generator.permutation(np.flatnonzero(same == kind))[:count]:
                pairs.append(Pair(names[first[k]], names[second[k]], kind, fold))
    return pairs


def _refuse_shared_people(job: TaskInput, pairs: Sequence[Pair]) -> None:
    person = {record.name: record.identity for record in job.prepared.records}
    home: dict[str, int] = {}
    for pair in pairs:
        for name in (pair.first, pair.second):
            who = person.get(name)
            if who is not None and home.setdefault(who, pair.fold) != pair.fold:
                raise DataError(
                    f"{job.prepared.faces.name}: {who} is in folds {home[who] + 1} and {pair.fold + 1} of the pairs"
                )


def _embeddings(job: TaskInput) -> Floats:
    features = job.features
    if job.settings.embedding == "pooled":
        return np.asarray(features.pooled, np.float64)
    if features.projected is None:
        raise CheckpointError(f"{job.encoder.name} is a backbone without a projection: use embedding pooled")
    return np.asarray(features.projected, np.float64)


def _unit(rows: Floats) -> Floats:
    return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)


def _protocol(job: TaskInput) -> dict[str, object]:
    own = bool(job.prepared.faces.pairs)
    return {
        "pairs": "the data set's" if own else f"seeded, of test faces, at most {PAIRS_A_FOLD} of each kind a fold",
        "embedding": job.settings.embedding,
        "threshold": "best accuracy on the other folds; centred: about the mean of the other folds' photos",
        "intervals": "resample pairs",
    }
