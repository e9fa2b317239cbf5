"""A result on disk: a folder with everything that is needed to read, compare and repeat it.

OUT/result.json    protocol, data set with its crop, network, settings, versions, scores with intervals, details
OUT/row.md         one row of a Markdown table, under its header
OUT/*.png          plots of scores; none shows a photo
"""

import json
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from fra_dist.errors import DataError
from fra_dist.eval.datasets import open_set
from fra_dist.eval.datasets.common.labelled_face import refuse_leaks, with_validation
from fra_dist.eval.features.encoder import Encoder
from fra_dist.eval.features.feature_cache import Cache
from fra_dist.eval.features.prepared_faces import prepare
from fra_dist.eval.scores.intervals import LEVEL, Score
from fra_dist.eval.settings import Settings, TaskEntry
from fra_dist.eval.tasks import alignment, attributes, consistency, expression, regions, verification
from fra_dist.eval.tasks.common import Job, TaskResult
from fra_dist.train.run_dir.folder import versions

FORMAT = 1
KEPT = 5000
"""Faces of a set whose maps are kept on disk, about 130 KB a face for a ResNet-50 at 112 px."""
RUNNERS: dict[str, Callable[[Job], TaskResult]] = {
    "expression": expression.run,
    "attributes": attributes.run,
    "alignment": alignment.run,
    "verification": verification.run,
    "regions": regions.run,
    "consistency": consistency.run,
}


def run_task(encoder: Encoder, entry: TaskEntry, cache: Cache) -> tuple[TaskResult, dict[str, Any]]:
    """The result of one task and its document. Raises DataError for data that cannot be used."""
    started = time.monotonic()
    settings = entry.settings
    faces = open_set(entry.dataset, entry.data)
    if entry.task != "verification":
        faces = with_validation(faces, settings.seed)
        refuse_leaks(faces)
        faces = faces.limited(settings.limit)
    prepared = prepare(faces, encoder.size, cache)
    if len(prepared) <= KEPT:
        encoder = replace(encoder, cache=cache)
    result = RUNNERS[entry.task](Job(encoder, prepared, settings, cache))
    return result, {
        "format": FORMAT,
        "task": result.task,
        "network": encoder.describe(),
        "dataset": prepared.describe(),
        "protocol": dict(result.protocol),
        "settings": settings.model_dump(mode="json"),
        "intervals": f"{LEVEL:.0%} percentile bootstrap, {settings.bootstrap} draws",
        "scores": {name: score.to_json() for name, score in result.scores.items()},
        "details": result.details,
        "seconds": round(time.monotonic() - started, 1),
        "versions": versions(encoder.device),
    }


def write_result(out: Path, result: TaskResult, document: Mapping[str, Any]) -> None:
    """Raises DataError when the folder cannot be written."""
    try:
        out.mkdir(parents=True, exist_ok=True)
        for name, draw in result.plots.items():
            draw(out / name)
        header, row = markdown_row(document["network"]["name"], document["dataset"]["name"], result)
        (out / "row.md").write_text(f"{header}\n{row}\n")
        partial = out / ".result.json"
        partial.write_text(json.dumps(_plain(document), indent=1, allow_nan=False) + "\n")
        partial.replace(out / "result.json")
    except OSError as error:
        raise DataError(f"cannot write the result to {out}: {error.strerror}; give another --out") from None


def markdown_row(network: str, dataset: str, result: TaskResult) -> tuple[str, str]:
    """(header with its rule, row): network, data set, then value and interval of each column's score."""
    titles = ["network", "data", *result.columns]
    cells = [network, dataset, *(_cell(result.scores[name]) for name in result.columns)]
    rule = "|".join(["", *["---"] * len(titles), ""])
    return f"| {' | '.join(titles)} |\n{rule}", f"| {' | '.join(cells)} |"


def as_lines(result: TaskResult, names: Sequence[str] | None = None) -> list[str]:
    """Aligned lines of scores with intervals, for a terminal."""
    chosen = list(result.scores) if names is None else list(names)
    width = max((len(name) for name in chosen), default=0)
    return [f"{name.ljust(width)}  {result.scores[name]}" for name in chosen]


def settings_of(values: Mapping[str, Any]) -> Settings:
    """Settings from given values; those left out have their defaults. Raises ConfigError."""
    from fra_dist.eval.settings import checked

    return checked(Settings, {key: value for key, value in values.items() if value is not None}, "eval")


def _cell(score: Score) -> str:
    return "-" if not math.isfinite(score.value) else f"{score.value:.4f} ({score.low:.4f}–{score.high:.4f})"


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(child) for key, child in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(child) for child in value]
    if hasattr(value, "item") and not isinstance(value, str):
        value = value.item()
    return None if isinstance(value, float) and not math.isfinite(value) else value
