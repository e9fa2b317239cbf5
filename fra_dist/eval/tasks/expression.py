"""Expression recognition: which of K expressions a face shows.

Frozen: a linear reader and nearest neighbours of the pooled features. Fine-tuned: the backbone and a linear layer on
its pooled map, cross-entropy. Each with a share of the labels, drawn class by class several times; the free number of
a reader, and the epoch of fine-tuning, are those with the best accuracy on the same share of the validation part.
"""

import numpy as np
import torch
from torch.nn import functional

from fra_dist.errors import DataError
from fra_dist.eval import plots
from fra_dist.eval.readers.finetune import Goal, fine_tune
from fra_dist.eval.readers.frozen_readers import Part, Reader, Sealed, fit_logistic, fit_neighbours, fit_ridge
from fra_dist.eval.readers.task_heads import PooledHead
from fra_dist.eval.scores.intervals import balanced, mean_of, with_interval
from fra_dist.eval.scores.label_shares import draw_classes
from fra_dist.eval.tasks.common import Answer, Outputs, Places, TaskInput, TaskResult, draws_of, seeded, title


def run(job: TaskInput) -> TaskResult:
    """Measure expression recognition on a prepared set.

    Raises DataError when faces have no expression, or a class has no training face in a share of the labels.
    """
    labels = _labels(job)
    sealed = Sealed(job.prepared.places("test"))
    answers, chosen = _fit(job, labels)

    test = sealed.open()
    truth, people = labels[test], job.prepared.people(test)
    scores, drawn = {}, {}
    details: dict[str, object] = {"chosen": chosen}
    for (mode, percent), some in answers.items():
        guesses = np.stack([answer(test).argmax(1) for answer in some])
        hits = guesses == truth
        for name, statistic in (("accuracy", mean_of(hits)), ("balanced", balanced(hits, truth))):
            scores[title(mode, percent, name)] = with_interval(
                statistic, len(test), people, job.settings.seed, draws=job.settings.bootstrap
            )
        by_draw = [float(np.mean(hit)) for hit in hits]
        table = confusion_matrix(truth, guesses[0], len(job.prepared.faces.expressions))
        details[f"{mode}/{percent:g}%"] = {"accuracy_by_draw": by_draw, "confusion_of_draw_0": table.tolist()}
        drawn[f"confusion-{mode}-{percent:g}.png"] = plots.draw_confusion(table, job.prepared.faces.expressions)
    details["classes"] = list(job.prepared.faces.expressions)
    return TaskResult("expression", _protocol(job), scores, tuple(scores), details, drawn)


def confusion_matrix(truth: Places, guess: Places, classes: int) -> Places:
    """The confusion matrix, (K, K) counts: true class by guessed class."""
    return np.bincount(truth * classes + guess, minlength=classes * classes).reshape(classes, classes)


def _labels(job: TaskInput) -> Places:
    faces = job.prepared.faces
    if not faces.expressions:
        raise DataError(f"{faces.name} in {faces.folder} has no expressions: this task needs them")
    return job.prepared.column("expression").astype(np.int64)


def _fit(job: TaskInput, labels: Places) -> tuple[dict[tuple[str, float], list[Answer]], dict[str, list[float]]]:
    names, settings = job.prepared.faces.expressions, job.settings
    train, validation = job.prepared.places("train"), job.prepared.places("val")
    answers: dict[tuple[str, float], list[Answer]] = {}
    chosen: dict[str, list[float]] = {}
    for percent in settings.labels:
        for draw in draws_of(settings, percent):
            seed = settings.seed + draw
            some = train[draw_classes(labels[train], percent, seed, names)]
            held = validation[draw_classes(labels[validation], percent, seed, names, least=1)]
            for mode in settings.modes:
                if mode == "finetune":
                    answers.setdefault((mode, percent), []).append(_tune(job, labels, some, held, seed, percent))
                    continue
                reader = _reader(job, mode, labels, some, held)
                answers.setdefault((mode, percent), []).append(_frozen(job, reader))
                chosen.setdefault(f"{mode}/{percent:g}%", []).append(reader.chosen)
    return answers, chosen


def _frozen(job: TaskInput, reader: Reader) -> Answer:
    return lambda places: reader.answer(job.features.what(places))


def _reader(job: TaskInput, mode: str, labels: Places, train: Places, validation: Places) -> Reader:
    features, classes = job.features, len(job.prepared.faces.expressions)

    def score(outputs: Outputs) -> float:
        return float((outputs.argmax(1) == labels[validation]).mean())

    one, two = (Part(features.what(places), labels[places]) for places in (train, validation))
    if mode == "knn":
        return fit_neighbours(one, two, score, classes)
    if job.settings.reader == "logistic":
        return fit_logistic(one, two, score, classes)
    return fit_ridge(Part(one.features, np.eye(classes)[labels[train]]), two, score)


def _tune(job: TaskInput, labels: Places, train: Places, validation: Places, seed: int, percent: float) -> Answer:
    seeded(seed, percent)
    head = PooledHead(job.channels()[0], len(job.prepared.faces.expressions))
    goal = Goal(
        head,
        torch.from_numpy(labels),
        functional.cross_entropy,
        lambda outputs: float((outputs.argmax(1) == labels[validation]).mean()),
    )
    return fine_tune(job.encoder, job.prepared, goal, train, validation, job.settings.tune, seed)


def _protocol(job: TaskInput) -> dict[str, object]:
    linear = "multinomial logistic regression, L-BFGS" if job.settings.reader == "logistic" else "ridge to one-hot"
    return {
        "features": "mean of the backbone's map",
        "linear": linear,
        "knn": "cosine about the training mean, votes weighted by exp(cosine/0.07)",
        "finetune": "backbone and linear layer, cross-entropy, AdamW; face turned, scaled, moved, mirrored",
        "selection": "accuracy on the same share of the validation part",
        "test": "opened once, after all fits",
        "draws": "scores are means over the draws of the labels; intervals resample test faces or people",
    }
