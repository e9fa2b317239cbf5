"""Attributes of a face, each there or not, and its age.

Frozen: one logistic regression for each attribute (or ridge to ±1) on the pooled features, one strength for all;
fine-tuned: the backbone and a linear layer, binary cross-entropy. Attributes that a face is not labelled with are left
out, in training and in the scores. The strength, and the epoch, are those with the best mean balanced accuracy on the
same share of the validation part. Age: ridge regression, chosen by mean absolute error.
"""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from fra_dist.errors import DataError
from fra_dist.eval import plots
from fra_dist.eval.readers.finetune import Goal, fine_tune
from fra_dist.eval.readers.frozen_readers import Part, Sealed, fit_logistic, fit_ridge
from fra_dist.eval.readers.task_heads import PooledHead
from fra_dist.eval.scores.intervals import (
    Floats,
    Score,
    Statistic,
    area,
    balanced,
    mean_of,
    mean_statistic,
    with_interval,
)
from fra_dist.eval.scores.label_shares import draw_rows
from fra_dist.eval.tasks.common import Answer, Outputs, Places, TaskInput, TaskResult, draws_of, seeded, title


def run(job: TaskInput) -> TaskResult:
    """Measure attributes and age on a prepared set.

    Raises DataError when there are no attributes, or a share of the labels has no face with (without) one.
    """
    faces = job.prepared.faces
    ages = all(record.age is not None for record in faces.records)
    if not faces.attributes and not ages:
        raise DataError(f"{faces.name} in {faces.folder} has neither attributes nor ages: this task needs them")
    sealed = Sealed(job.prepared.places("test"))
    signs = job.prepared.column("attributes").astype(np.int64) if faces.attributes else np.zeros((len(job.prepared), 0))
    answers = _fit_signs(job, signs.astype(np.int64)) if faces.attributes else {}
    years = job.prepared.column("age").astype(np.float64) if ages else np.zeros(0)
    old = _fit_age(job, years) if ages else {}

    test = sealed.open()
    people, seed = job.prepared.people(test), job.settings.seed
    scores: dict[str, Score] = {}
    details: dict[str, object] = {}
    drawn: dict[str, plots.Draw] = {}
    for (mode, percent), some in answers.items():
        outputs = np.stack([answer(test) for answer in some])
        found, each = score_signs(outputs, signs[test].astype(np.int64), faces.attributes)
        for name, statistic in found.items():
            scores[title(mode, percent, name)] = with_interval(
                statistic, len(test), people, seed, draws=job.settings.bootstrap
            )
        details[f"{mode}/{percent:g}%"] = each
        if len(faces.attributes) > 1:
            drawn[f"auc-{mode}-{percent:g}.png"] = plots.bars(
                {n: each[n]["auc"] for n in each}, "area under the ROC curve"
            )
    for (mode, percent), some in old.items():
        errors = np.stack([np.abs(answer(test)[:, 0] - years[test]) for answer in some])
        scores[title(mode, percent, "age_mae")] = with_interval(
            mean_of(errors), len(test), people, seed, higher_is_better=False, draws=job.settings.bootstrap
        )
    return TaskResult("attributes", _protocol(job), scores, tuple(scores), details, drawn)


def score_signs(
    outputs: Outputs, truth: Places, names: tuple[str, ...]
) -> tuple[dict[str, Statistic], dict[str, dict[str, float]]]:
    """Statistics of the means over attributes, and each attribute's scores, from outputs (draws, n, A) and truth (n,
    A).

    Attributes without an example of both kinds in the test part count for the accuracy only.
    """
    accuracies: list[Statistic] = []
    halves: list[Statistic] = []
    areas: list[Statistic] = []
    each = {}
    ones = np.ones(len(truth))
    for k, name in enumerate(names):
        known = truth[:, k] >= 0
        if not known.any():
            continue
        hits = (outputs[:, known, k] > 0) == (truth[known, k] == 1)
        found = {"accuracy": _only(known, mean_of(hits))}
        accuracies.append(found["accuracy"])
        if len(np.unique(truth[known, k])) == 2:
            found["balanced"] = _only(known, balanced(hits, truth[known, k]))
            found["auc"] = _only(known, mean_statistic([area(one[known, k], truth[known, k] == 1) for one in outputs]))
            halves.append(found["balanced"])
            areas.append(found["auc"])
        each[name] = {key: statistic(ones) for key, statistic in found.items()} | {
            "share": float(truth[known, k].mean())
        }
        each[name].setdefault("auc", float("nan"))
    return {
        "accuracy": mean_statistic(accuracies),
        "balanced": mean_statistic(halves),
        "auc": mean_statistic(areas),
    }, each


def _only(known: np.ndarray, statistic: Statistic) -> Statistic:
    def part(weights: Floats) -> float:
        chosen = weights[known]
        return statistic(chosen) if chosen.any() else float("nan")

    return part


def _fit_signs(job: TaskInput, signs: Places) -> dict[tuple[str, float], list[Answer]]:
    names, settings = job.prepared.faces.attributes, job.settings
    train, validation = job.prepared.places("train"), job.prepared.places("val")
    answers: dict[tuple[str, float], list[Answer]] = {}
    for percent in settings.labels:
        for draw in draws_of(settings, percent):
            seed = settings.seed + draw
            some = train[draw_rows(signs[train], percent, seed, names)]
            held = validation[draw_rows(signs[validation], percent, seed, names, check=False)]
            for mode in settings.modes:
                if mode != "knn":
                    fit = _tune if mode == "finetune" else _linear
                    answers.setdefault((mode, percent), []).append(fit(job, signs, some, held, seed, percent))
    return answers


def _linear(job: TaskInput, signs: Places, train: Places, validation: Places, seed: int, percent: float) -> Answer:
    features = job.features
    one, two = (Part(features.what(places), signs[places]) for places in (train, validation))
    score = _score(signs[validation])
    if job.settings.reader == "logistic":
        reader = fit_logistic(one, two, score, signs.shape[1])
    else:
        pulled = np.where(one.targets == 1, 1.0, np.where(one.targets == 0, -1.0, 0.0))  # type: ignore[operator]
        reader = fit_ridge(Part(one.features, pulled), two, score)
    return lambda places: reader.answer(features.what(places))


def _tune(job: TaskInput, signs: Places, train: Places, validation: Places, seed: int, percent: float) -> Answer:
    seeded(seed, percent)
    head = PooledHead(job.channels()[0], signs.shape[1])
    goal = Goal(head, torch.from_numpy(signs), _loss, _score(signs[validation]))
    return fine_tune(job.encoder, job.prepared, goal, train, validation, job.settings.tune, seed)


def _loss(outputs: Tensor, signs: Tensor) -> Tensor:
    known = (signs >= 0).float()
    each = functional.binary_cross_entropy_with_logits(outputs, signs.clamp(min=0).float(), reduction="none")
    return (each * known).sum() / known.sum().clamp(min=1)


def _score(truth: Places) -> Callable[[Outputs], float]:
    """Mean balanced accuracy over the attributes; over few faces some have one kind only, and count as they are."""

    def score(outputs: Outputs) -> float:
        rated = []
        for k in range(truth.shape[1]):
            known = truth[:, k] >= 0
            if known.any():
                rated.append(
                    balanced((outputs[known, k] > 0) == (truth[known, k] == 1), truth[known, k])(np.ones(known.sum()))
                )
        return float(np.mean(rated)) if rated else 0.0

    return score


def _fit_age(job: TaskInput, years: Floats) -> dict[tuple[str, float], list[Answer]]:
    features, settings = job.features, job.settings
    train, validation = job.prepared.places("train"), job.prepared.places("val")
    answers: dict[tuple[str, float], list[Answer]] = {}
    for percent in settings.labels if "linear" in settings.modes else ():
        for draw in draws_of(settings, percent):
            generator = np.random.default_rng([settings.seed + draw, round(1000 * percent)])
            some, held = (_share(part, percent, generator) for part in (train, validation))
            one, two = (Part(features.what(part), years[part, None]) for part in (some, held))
            reader = fit_ridge(one, two, lambda out, held=held: -float(np.abs(out[:, 0] - years[held]).mean()))  # type: ignore[misc]
            answers.setdefault(("linear", percent), []).append(lambda places, r=reader: r.answer(features.what(places)))  # type: ignore[misc]
    return answers


def _share(places: Places, percent: float, generator: np.random.Generator) -> Places:
    return generator.permutation(places)[: max(1, round(len(places) * percent / 100))]


def _protocol(job: TaskInput) -> dict[str, object]:
    return {
        "features": "mean of the backbone's map",
        "linear": "logistic regression, L-BFGS" if job.settings.reader == "logistic" else "ridge to ±1",
        "age": "ridge regression, chosen by mean absolute error",
        "finetune": "backbone and linear layer, binary cross-entropy, AdamW; face turned, scaled, moved, mirrored",
        "selection": "mean balanced accuracy on the same share of the validation part",
        "test": "opened once, after all fits",
        "means": "over the attributes; balanced accuracy and AUC over those with both kinds in the test part",
    }
