"""Alignment: where the landmarks of a face lie.

Frozen (`linear`): ridge regression from the pooled features and the map to the places. Fine-tuned: the backbone and a
heatmap head with soft-argmax. NME: a face's mean distance over a length of the true face; FR@t: the share of faces with
an NME above t; AUC@t: area under the cumulative error curve up to t, over t.
"""

from collections.abc import Callable

import numpy as np
import torch

from fra_dist.errors import DataError
from fra_dist.eval import plots
from fra_dist.eval.datasets.common.landmark_schemes import (
    SCHEMES,
    Scheme,
    diagonal,
    inter_ocular,
    inter_pupil,
    mirror_order,
)
from fra_dist.eval.readers.finetune import Goal, fine_tune
from fra_dist.eval.readers.frozen_readers import Part, Sealed, fit_ridge
from fra_dist.eval.readers.task_heads import HeatmapHead, landmark_loss, soft_argmax
from fra_dist.eval.scores.intervals import Floats, Score, mean_of, with_interval
from fra_dist.eval.tasks.common import Answer, Outputs, Places, TaskInput, TaskResult, draws_of, seeded, title

LIMITS = (0.08, 0.10)


def run(job: TaskInput) -> TaskResult:
    """Measure alignment on a prepared set.

    Raises DataError when there are no landmarks, or none that give the length asked for.
    """
    points = job.prepared.points()
    scheme = SCHEMES[job.prepared.faces.scheme]
    lengths = norms(points, scheme, job)
    norm = job.settings.norm if job.settings.norm != "auto" else next(iter(lengths))
    if norm not in lengths:
        raise DataError(
            f"{job.prepared.faces.name}: its {scheme.count} landmarks give no {norm}: use {', '.join(lengths)}"
        )
    sealed = Sealed(job.prepared.places("test"))
    answers = _fit(job, points, lengths[norm])

    test = sealed.open()
    people, seed, draws = job.prepared.people(test), job.settings.seed, job.settings.bootstrap
    scores: dict[str, Score] = {}
    curves = {}
    for (mode, percent), some in answers.items():
        guesses = [answer(test).reshape(points[test].shape) for answer in some]
        distance = np.stack([face_errors(guess, points[test]) for guess in guesses])
        coordinates = np.stack([np.abs(guess - points[test]).mean((1, 2)) for guess in guesses])
        scores[title(mode, percent, "mae_of_side")] = with_interval(
            mean_of(coordinates), len(test), people, seed, False, draws
        )
        for name, length in lengths.items():
            errors = distance / length[test]
            scores |= _scored(title(mode, percent, f"nme_{name}"), errors, people, seed, draws)
            if name == norm:
                curves[f"{mode}, {percent:g} %"] = errors.mean(0)
                for group, member in job.prepared.subsets(test).items():
                    some_people = None if people is None else people[member]
                    found = _scored(title(mode, percent, f"nme_{name}"), errors[:, member], some_people, seed, draws)
                    scores |= {f"{key}/{group}": value for key, value in found.items()}
    columns = tuple(name for name in scores if "/" not in name.split("%/")[1] and "@" not in name)
    drawn = (
        {"errors.png": plots.error_curves(curves, 0.2 if norm != "diagonal" else 0.1, f"NME, {norm}")} if curves else {}
    )
    details = {"norm": norm, "landmarks": scheme.count}
    return TaskResult("alignment", _protocol(job, norm), scores, columns, details, drawn)


def face_errors(guess: Floats, truth: Floats) -> Floats:
    """Mean distance of each face's points from the truth, in their own unit: (N, P, 2) twice -> (N,)."""
    return np.linalg.norm(guess - truth, axis=-1).mean(-1)


def failure_rate(limit: float) -> Callable[[Floats], Floats]:
    """A function from errors to whether each is above `limit`; the mean of that is FR@limit."""
    return lambda errors: (errors > limit).astype(np.float64)


def curve_area(limit: float) -> Callable[[Floats], Floats]:
    """A function from errors to max(0, 1 − error/limit); the mean of that is AUC@limit.

    That is exactly the area under the cumulative error curve up to limit, over limit: ∫₀ᵗ [e ≤ x] dx = max(0, t − e).
    """
    return lambda errors: np.maximum(0.0, 1.0 - errors / limit)


def norms(points: Floats, scheme: Scheme, job: TaskInput | None = None) -> dict[str, Floats]:
    """The lengths that a scheme gives, by name, (N,) each, from points (N, P, 2).

    With a job, `diagonal` is that of the data set's own box, where it has one.
    """
    found = {"inter_ocular": inter_ocular(points, scheme), "inter_pupil": inter_pupil(points, scheme)}
    boxes = _boxes(job) if job is not None else None
    across = {"diagonal": diagonal(points) if boxes is None else boxes}
    known = {name: value for name, value in found.items() if value is not None and bool((value > 1e-6).all())}
    if scheme.count == 19:
        return {**across, **known}  # turned faces: the eyes' distance vanishes
    return {**known, **across}


def _boxes(job: TaskInput) -> Floats | None:
    records, squares = job.prepared.records, job.prepared.squares
    if any(record.box is None for record in records):
        return None
    boxes = np.array([record.box for record in records], np.float64)
    sides = np.array([square.side for square in squares])
    return np.hypot(boxes[:, 2] - boxes[:, 0], boxes[:, 3] - boxes[:, 1]) / sides


def _scored(name: str, errors: Floats, people: Places | None, seed: int, draws: int) -> dict[str, Score]:
    count = errors.shape[1]
    found = {name: with_interval(mean_of(errors), count, people, seed, False, draws)}
    for limit in LIMITS:
        found[f"{name}/fr@{limit:.0%}"] = with_interval(
            mean_of(failure_rate(limit)(errors)), count, people, seed, False, draws
        )
        found[f"{name}/auc@{limit:.0%}"] = with_interval(
            mean_of(curve_area(limit)(errors)), count, people, seed, draws=draws
        )
    return found


def _fit(job: TaskInput, points: Floats, length: Floats) -> dict[tuple[str, float], list[Answer]]:
    settings, answers = job.settings, {}  # type: ignore[var-annotated]
    train, validation = job.prepared.places("train"), job.prepared.places("val")
    for percent in settings.labels:
        for draw in draws_of(settings, percent):
            generator = np.random.default_rng([settings.seed + draw, round(1000 * percent)])
            some, held = (_share(part, percent, generator) for part in (train, validation))
            for mode in settings.modes:
                if mode != "knn":
                    fit = _tune if mode == "finetune" else _linear
                    answers.setdefault((mode, percent), []).append(
                        fit(job, points, length, some, held, settings.seed + draw)
                    )
    return answers


def _share(places: Places, percent: float, generator: np.random.Generator) -> Places:
    return np.sort(generator.permutation(places)[: max(2, round(len(places) * percent / 100))])


def _linear(job: TaskInput, points: Floats, length: Floats, train: Places, validation: Places, seed: int) -> Answer:
    features, flat = job.features, points.reshape(len(points), -1)
    one, two = (Part(features.where(places), flat[places]) for places in (train, validation))
    reader = fit_ridge(one, two, _score(points, length, validation))
    return lambda places: reader.answer(features.where(places))


def _score(points: Floats, length: Floats, places: Places) -> Callable[[Outputs], float]:
    truth, unit = points[places], length[places]
    return lambda outputs: -float((face_errors(outputs.reshape(truth.shape), truth) / unit).mean())


def _tune(job: TaskInput, points: Floats, length: Floats, train: Places, validation: Places, seed: int) -> Answer:
    seeded(seed, len(train))
    channels, side = job.channels()
    kind = job.settings.loss
    goal = Goal(
        HeatmapHead(channels, points.shape[1], side),
        torch.from_numpy(points).float(),
        lambda heatmaps, target: landmark_loss(kind, heatmaps, target),
        _score(points, length, validation),
        lambda heatmaps: soft_argmax(heatmaps).flatten(1),
        mirror_order(points[train]),
    )
    return fine_tune(job.encoder, job.prepared, goal, train, validation, job.settings.tune, seed)


def _protocol(job: TaskInput, norm: str) -> dict[str, object]:
    return {
        "features": "mean of the backbone's map and the map itself",
        "linear": "ridge regression to x and y",
        "finetune": f"backbone and heatmap head, soft-argmax, loss {job.settings.loss}, AdamW; "
        "face turned, scaled, moved, mirrored",
        "selection": f"NME ({norm}) on the same share of the validation part",
        "test": "opened once, after all fits",
        "crop": "the data set's rule, from true boxes or landmarks, as in published results",
    }
