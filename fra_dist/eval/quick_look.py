"""A quick look at a network: all the tasks that one set of labelled faces allows, with settings for speed.

Tasks, features, parts of the data, crops and readers are those of `fra-dist eval TASK`; only the settings differ: all
labels, ridge regression in place of logistic, nearest neighbours, no intervals, whole photos only. Used by `fra-dist
eval CHECKPOINT`, by the demo, and between the steps of a run.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from fra_dist.errors import FraError
from fra_dist.eval.baselines import (
    BY_REGIONS,
    PIXELS,
    UNTRAINED,
    constant_encoder,
    pixels_encoder,
    untrained_encoder,
)
from fra_dist.eval.datasets.common.labelled_face import FaceSet, refuse_leaks, with_validation
from fra_dist.eval.datasets.common.landmark_schemes import SCHEMES
from fra_dist.eval.features.encoder import Encoder
from fra_dist.eval.features.feature_cache import Cache
from fra_dist.eval.features.prepared_faces import PreparedFaces, prepare_faces
from fra_dist.eval.regions.segmenters import CLUSTERS, Segmenter, segmenters
from fra_dist.eval.results import KEPT, RUNNERS, json_value
from fra_dist.eval.settings import Settings, Way
from fra_dist.eval.tasks.common import TaskInput, TaskResult
from fra_dist.eval.tasks.regions import faces_to_fit

OF_NETWORK: tuple[Way, ...] = ("heatmaps", "clusters", "random_prototypes")
"""Ways of getting regions that depend on the network."""
OF_NO_NETWORK: tuple[Way, ...] = ("position", "position_in_parts", "ceiling", "face_frame")
GUESS = "guess"


@dataclass(frozen=True)
class Look:
    """What was measured of one network, of pixels, or of guessing."""

    name: str
    results: Mapping[str, TaskResult]
    """By task."""
    left_out: Mapping[str, str]
    """Task -> why it was not measured."""
    seconds: float

    def to_json(self) -> dict[str, Any]:
        """`scores` and `details` of each task as plain values; None in place of NaN."""
        scores = {task: {key: one.value for key, one in found.scores.items()} for task, found in self.results.items()}
        details = {task: found.details for task, found in self.results.items()}
        found = {"name": self.name, "scores": scores, "details": details, "left_out": self.left_out}
        document: dict[str, Any] = json_value({**found, "seconds": round(self.seconds, 1)})
        return document


def quick_settings(seed: int, regions: int, ways: Sequence[Way] = OF_NETWORK) -> Settings:
    """Settings for speed; `regions` is the number of clusters for what has no heatmaps to count."""
    return Settings(
        labels=(100,),
        modes=("linear", "knn"),
        reader="ridge",
        bootstrap=0,
        seed=seed,
        regions=regions,
        ways=tuple(ways),
        views=(),
    )


def tasks_of(faces: FaceSet) -> tuple[str, ...]:
    """The tasks, but for `consistency`, that the labels of a set allow."""
    aged = all(record.age is not None for record in faces.records)
    found = {
        "expression": bool(faces.expressions) and all(record.expression is not None for record in faces.records),
        "attributes": bool(faces.attributes) or aged,
        "alignment": bool(faces.scheme),
        "verification": bool(faces.pairs) or all(record.identity is not None for record in faces.records),
        "regions": bool(faces.mask_classes) or bool(faces.scheme and SCHEMES[faces.scheme].parts),
    }
    return tuple(task for task, there in found.items() if there)


def prepare_to_look(faces: FaceSet, size: int, seed: int, cache: Cache) -> PreparedFaces:
    """Faces with a validation part, cut to `size` pixels, without attributes that all training faces have or lack.

    Raises DataError for a set without training or test faces, for one whose parts share people, and for unreadable
    photos.
    """
    faces = with_validation(faces, seed)
    refuse_leaks(faces)
    return prepare_faces(_without_constant_attributes(faces), size, cache)


def look_at(encoder: Encoder, prepared: PreparedFaces, settings: Settings, cache: Cache) -> Look:
    """Every task that the labels allow; one that fails is left out with its reason."""
    return _measure(encoder.name, _jobs(encoder, prepared, settings, cache))


def look_at_baselines(
    encoder: Encoder, prepared: PreparedFaces, settings: Settings, cache: Cache, which: Sequence[str]
) -> list[Look]:
    """The baselines of `which` (of `baselines.BESIDE`), in their order: `untrained` is a network of the same kind."""
    looks = {
        UNTRAINED: lambda: look_at(untrained_encoder(encoder, settings.seed), prepared, settings, cache),
        PIXELS: lambda: _look_at_pixels(prepared, settings, cache),
    }
    return [looks[name]() for name in which]


def look_at_guesses(encoder: Encoder, prepared: PreparedFaces, settings: Settings, cache: Cache) -> Look:
    """What needs no network: the best constant guess, regions from places alone, and the oracles.

    `encoder` says how large the map of `ceiling` is.
    """
    constant = settings.model_copy(update={"modes": ("linear",)})
    places = settings.model_copy(update={"ways": OF_NO_NETWORK})
    jobs = _jobs(constant_encoder(prepared.size), prepared, constant, cache)
    by_regions = {task: job for task, job in _jobs(encoder, prepared, places, cache).items() if task in BY_REGIONS}
    return _measure(GUESS, {**jobs, **by_regions})


def own_ways(encoder: Encoder) -> tuple[Way, ...]:
    """Heatmaps of a network that has them, else k-means on its features."""
    return ("heatmaps",) if encoder.has_regions else ("clusters",)


def own_regions(encoder: Encoder, prepared: PreparedFaces, settings: Settings) -> Segmenter:
    """The regions that the first of `own_ways` is scored with, for pictures of any photos."""
    some = prepared.photos[faces_to_fit(prepared)]
    (way,) = segmenters(encoder, some, settings.regions, settings.seed, own_ways(encoder)).values()
    return way


def _look_at_pixels(prepared: PreparedFaces, settings: Settings, cache: Cache) -> Look:
    """Grey values for readers, colours for k-means."""
    clusters = settings.model_copy(update={"ways": (CLUSTERS,)})
    grey, colours = (_jobs(pixels_encoder(prepared.size, c), prepared, clusters, cache) for c in (False, True))
    return _measure(PIXELS, {task: (colours if task in BY_REGIONS else grey)[task] for task in grey})


def _jobs(encoder: Encoder, prepared: PreparedFaces, settings: Settings, cache: Cache) -> dict[str, TaskInput]:
    """One for all tasks: features are extracted once."""
    job = TaskInput(
        replace(encoder, cache=cache if len(prepared) <= KEPT else encoder.cache), prepared, settings, cache
    )
    return dict.fromkeys(tasks_of(prepared.faces), job)


def _measure(name: str, jobs: Mapping[str, TaskInput]) -> Look:
    began = time.monotonic()
    results: dict[str, TaskResult] = {}
    left_out: dict[str, str] = {}
    for task, job in jobs.items():
        try:
            results[task] = RUNNERS[task](job)
        except FraError as error:
            left_out[task] = str(error)
    return Look(name, results, left_out, time.monotonic() - began)


def _without_constant_attributes(faces: FaceSet) -> FaceSet:
    train = [record.attributes for record in faces.of("train") if record.attributes is not None]
    kept = [k for k in range(len(faces.attributes)) if {0, 1} <= {signs[k] for signs in train}]
    if len(kept) == len(faces.attributes):
        return faces
    dropped = [name for k, name in enumerate(faces.attributes) if k not in kept]
    records = tuple(
        replace(record, attributes=tuple(record.attributes[k] for k in kept) if kept and record.attributes else None)
        for record in faces.records
    )
    note = f"attributes that all training faces have or lack were left out: {', '.join(dropped)}"
    names = tuple(faces.attributes[k] for k in kept)
    return replace(faces, records=records, attributes=names, notes=(*faces.notes, note))
