"""What the study measures of a network, by the tasks of `fra-dist eval`; and the networks that nobody trained.

Scores are named SET/SCORE-OF-THE-TASK, for example `landmarks68/linear/100%/mae_of_side`.
"""

import shutil
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path

from fra_dist.eval.baselines import pixels_encoder
from fra_dist.eval.datasets import open_set
from fra_dist.eval.datasets.common.labelled_face import refuse_leaks, with_validation
from fra_dist.eval.features.encoder import Encoder
from fra_dist.eval.features.feature_cache import Cache
from fra_dist.eval.features.prepared_faces import PreparedFaces, prepare_faces
from fra_dist.eval.results import RUNNERS
from fra_dist.eval.settings import Settings
from fra_dist.eval.tasks.common import TaskInput

TASKS: dict[str, tuple[str, str, dict[str, object]]] = {
    "landmarks68": ("alignment", "landmarks68", {"labels": (10, 100), "modes": ("linear",)}),
    "attributes": ("attributes", "attributes", {"labels": (1, 10, 100), "modes": ("linear",), "reader": "ridge"}),
    "expression": ("expression", "expression", {"labels": (10, 100), "modes": ("linear", "knn"), "reader": "ridge"}),
    "regions": ("regions", "regions", {}),
    "following": ("consistency", "landmarks68", {"limit": 200}),
}
"""Name of the scores -> task, data set, settings."""
WITHOUT_MAPS = ("landmarks68", "attributes", "expression")
LEFT_OUT = ("fr@", "auc@", "random_clusters/", "nme_inter_pupil", "nme_diagonal")


def measure(
    encoder: Encoder, sets: Mapping[str, Path], kept: Path, labels: Sequence[float] | None, only: Collection[str] = ()
) -> dict[str, float]:
    """Scores by name, of the tasks in `only` or of all. Features are removed from the cache again: they are used once.

    labels: percent, instead of those of TASKS. Raises DataError.
    """
    scores: dict[str, float] = {}
    for name, (task, data, settings) in TASKS.items():
        if only and name not in only:
            continue
        more = {"labels": labels} if labels else {}
        told = Settings.model_validate({**settings, **more, "bootstrap": 0})  # the spread is over seeds
        prepared = _prepared(sets[data], encoder.size, told.limit, kept)
        result = RUNNERS[task](TaskInput(encoder, prepared, told, Cache(kept)))
        scores |= {
            f"{name}/{key}": round(score.value, 6)
            for key, score in result.scores.items()
            if not any(word in key for word in LEFT_OUT)
        }
    for folder in kept.glob("features-*"):
        shutil.rmtree(folder)
    return scores


@cache
def _prepared(folder: Path, size: int, limit: int | None, cached: Path) -> PreparedFaces:
    """The faces of a set with a validation part, read once for all networks."""
    faces = with_validation(open_set("csv", folder), 0)
    refuse_leaks(faces)
    return prepare_faces(faces.limited(limit), size, Cache(cached))


def grey_pixels(size: int) -> Encoder:
    return replace(pixels_encoder(size), name="grey pixels")
