"""What the study measures of a network, by the tasks of `fra-dist eval`; and the networks that nobody trained.

Scores are named SET/SCORE-OF-THE-TASK, for example `landmarks68/linear/100%/mae_of_side`.
"""

import math
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import torch

from fra_dist.config import Config
from fra_dist.eval.baselines import pixels_encoder
from fra_dist.eval.datasets import open_set
from fra_dist.eval.datasets.common.labelled_face import FaceSet, refuse_leaks, with_validation
from fra_dist.eval.features.encoder import Encoder
from fra_dist.eval.features.feature_cache import Cache
from fra_dist.eval.features.prepared_faces import PreparedFaces, prepare_faces
from fra_dist.eval.results import RUNNERS
from fra_dist.eval.scores.intervals import Score
from fra_dist.eval.settings import Settings
from fra_dist.eval.tasks.common import TaskInput
from fra_dist.models.fra import FRA

OF_NETWORK = ("heatmaps", "clusters", "probe")
OF_ANY = ("random_prototypes", "position", "position_in_parts", "ceiling", "face_frame")
"""Floors and oracles, which training does not change: measured beside the untrained network alone."""
TASKS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "landmarks68": ("alignment", "landmarks68", {"labels": (10, 100), "modes": ("linear",)}),
    "attributes": ("attributes", "attributes", {"labels": (1, 10, 100), "modes": ("linear",), "reader": "ridge"}),
    "expression": ("expression", "expression", {"labels": (10, 100), "modes": ("linear", "knn"), "reader": "ridge"}),
    "regions": ("regions", "regions", {}),
    "polygons": ("regions", "landmarks68", {"limit": 941, "views": ()}),
    "following": ("consistency", "landmarks68", {"limit": 200}),
}
"""Name of the scores -> task, data set, settings."""
CHOOSING: dict[str, dict[str, Any]] = {
    "landmarks68": {"labels": (100,)},
    "attributes": {"labels": (100,)},
    "expression": {"labels": (100,), "modes": ("linear",)},
    "regions": {"ways": ("heatmaps", "clusters", "position"), "views": ()},
}
"""Tasks by which variants are chosen, on validation parts, and what differs there."""
WITHOUT_MAPS = ("landmarks68", "attributes", "expression")
LEFT_OUT = ("fr@", "auc@", "random_clusters/", "nme_inter_pupil", "nme_diagonal")
COMPARED = (
    "landmarks68/linear/100%/mae_of_side",
    "landmarks68/linear/10%/mae_of_side",
    "attributes/linear/100%/balanced",
    "expression/linear/100%/balanced",
    "regions/heatmaps/parts_nmi",
    "regions/clusters/parts_nmi",
)
"""Scores whose bootstrap draws are kept, so that differences between networks have intervals over people."""
DRAWS = 200
UNIT = 1e-5
"""Of the draws that are kept, as whole numbers."""


class Measured(NamedTuple):
    """Scores by name, and draws of those in COMPARED, in units of UNIT."""

    scores: dict[str, float]
    drawn: dict[str, list[int]]


def measure(
    encoder: Encoder, sets: Mapping[str, Path], kept: Path, labels: Sequence[float] | None, part: str = "test"
) -> Measured:
    """All scores of a network. Features are removed from the cache again: they are used once.

    labels: percent, instead of those of TASKS. part: `test`, or `val`, for which no test face is read. Raises
    DataError.
    """
    found = Measured({}, {})
    for name, (_, data, _) in TASKS.items():
        if (encoder.network is None and name not in WITHOUT_MAPS) or (part == "val" and name not in CHOOSING):
            continue
        told = _settings(name, encoder, labels, part)
        prepared = _prepared(sets[data], encoder.size, told.limit, kept, part)
        result = RUNNERS[TASKS[name][0]](TaskInput(encoder, prepared, told, Cache(kept)))
        for key, score in result.scores.items():
            if not any(word in key for word in LEFT_OUT):
                _note(found, f"{name}/{key}", score)
    for folder in kept.glob("features-*"):
        shutil.rmtree(folder)
    return found


def _settings(name: str, encoder: Encoder, labels: Sequence[float] | None, part: str) -> Settings:
    settings = {**TASKS[name][2], "bootstrap": DRAWS if part == "test" else 0}
    if name not in WITHOUT_MAPS:
        settings["ways"] = OF_NETWORK + (OF_ANY if encoder.name == "untrained" else ())
    if part == "val":
        settings |= CHOOSING[name]
    return Settings.model_validate(settings | ({"labels": labels} if labels else {}))


def _note(found: Measured, name: str, score: Score) -> None:
    found.scores[name] = round(score.value, 6)
    if name in COMPARED and score.drawn and all(map(math.isfinite, score.drawn)):
        found.drawn[name] = [round(value / UNIT) for value in score.drawn]


@cache
def _prepared(folder: Path, size: int, limit: int | None, cached: Path, part: str) -> PreparedFaces:
    """The faces of a set with a validation part, read once for all networks."""
    faces = with_validation(open_set("csv", folder), 0)
    if part == "val":
        faces = without_test(faces)
    refuse_leaks(faces)
    return prepare_faces(faces.limited(limit), size, Cache(cached))


def without_test(faces: FaceSet) -> FaceSet:
    """A set whose validation part takes the place of its test part, which is left out, with a new validation part from
    its training part."""
    parts = {"train": "train", "val": "test"}
    kept = tuple(replace(one, split=parts[one.split]) for one in faces.records if one.split in parts)
    return with_validation(replace(faces, records=kept), 1)


def untrained(config: Config) -> Encoder:
    """The whole network of a configuration, with random weights from its seed."""
    torch.manual_seed(config.seed)
    network, data = FRA(config.model).online.eval(), config.data
    about = {"architecture": config.model.backbone, "map_stride": config.model.map_stride}
    return Encoder("untrained", network.backbone, data.image_size, data.mean, data.std, network, about)


def grey_pixels(size: int) -> Encoder:
    return replace(pixels_encoder(size), name="grey pixels")
