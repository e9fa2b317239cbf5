"""A result on disk: a folder with everything that is needed to read, compare and repeat it.

OUT/result.json    protocol, data set with its crop, network, settings, versions, scores with intervals, details
OUT/row.md         one row of a Markdown table, under its header
OUT/table.md       of regions and consistency: a row for each way of getting regions, the floors and oracles among them
OUT/*.png          plots of scores; none shows a photo
"""

import json
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from fra_dist import files
from fra_dist.errors import DataError
from fra_dist.eval.baselines import measure_beside
from fra_dist.eval.datasets import open_set
from fra_dist.eval.datasets.common.labelled_face import refuse_leaks, with_validation
from fra_dist.eval.features.encoder import Encoder
from fra_dist.eval.features.feature_cache import Cache
from fra_dist.eval.features.prepared_faces import prepare_faces
from fra_dist.eval.score_grid import OWN, as_markdown, grid_of, with_beside
from fra_dist.eval.scores.intervals import LEVEL, Score
from fra_dist.eval.settings import Settings, TaskEntry
from fra_dist.eval.tasks import alignment, attributes, consistency, expression, regions, verification
from fra_dist.eval.tasks.common import TaskInput, TaskResult
from fra_dist.train.run_dir.folder import versions

FORMAT = 1
KEPT = 5000
"""Faces of a set whose maps are kept on disk, about 130 KB a face for a ResNet-50 at 112 px."""
RUNNERS: dict[str, Callable[[TaskInput], TaskResult]] = {
    "expression": expression.run,
    "attributes": attributes.run,
    "alignment": alignment.run,
    "verification": verification.run,
    "regions": regions.run,
    "consistency": consistency.run,
}


def run_task(
    encoder: Encoder, entry: TaskEntry, cache: Cache, beside: Sequence[str] = ()
) -> tuple[TaskResult, dict[str, Any]]:
    """The result of one task and its document, with scores of the baselines in `beside` (of `baselines.BESIDE`).

    Raises DataError for data that cannot be used.
    """
    started = time.monotonic()
    settings = entry.settings
    faces = open_set(entry.dataset, entry.data)
    if entry.task != "verification":
        faces = with_validation(faces, settings.seed)
        refuse_leaks(faces)
        faces = faces.limited(settings.limit)
    prepared = prepare_faces(faces, encoder.size, cache)
    if len(prepared) <= KEPT:
        encoder = replace(encoder, cache=cache)
    job, run = TaskInput(encoder, prepared, settings, cache), RUNNERS[entry.task]
    result = run(job)
    seconds = round(time.monotonic() - started, 1)
    others = measure_beside(job, run, entry.task, beside)
    return result, {
        "format": FORMAT,
        "task": result.task,
        "network": encoder.describe(),
        "dataset": prepared.describe(),
        "protocol": dict(result.protocol),
        "settings": settings.model_dump(mode="json"),
        "intervals": f"{LEVEL:.0%} percentile bootstrap, {settings.bootstrap} draws of "
        f"{prepared.drawn(prepared.places('test'))}",
        "scores": {name: score.to_json() for name, score in result.scores.items()},
        "details": result.details,
        "seconds": seconds,
        "beside": {one.name: {"scores": one.scores, "seconds": one.seconds} for one in others},
        "versions": versions(encoder.device),
    }


def write_result(out: Path, result: TaskResult, document: Mapping[str, Any]) -> None:
    """Raises DataError when the folder cannot be written."""
    try:
        files.make_folder(out)
        for name, draw in result.plots.items():
            draw(out / name)
        header, row = markdown_row(document["network"]["name"], document["dataset"]["name"], result)
        files.write_whole(out / "row.md", f"{header}\n{row}\n")
        if result.grid:
            lines = as_markdown(with_beside(grid_of(result.scores, result.columns), scores_beside(document), OWN))
            files.write_whole(out / "table.md", "\n".join([*lines, "", f"Intervals: {document['intervals']}."]) + "\n")
        files.write_whole(out / "result.json", json.dumps(json_value(document), indent=1, allow_nan=False) + "\n")
    except OSError as error:
        raise files.failure(error, f"cannot write the result to {out} (or give another --out)", DataError) from None


def markdown_row(network: str, dataset: str, result: TaskResult) -> tuple[str, str]:
    """(header with its rule, row): network, data set, then value and interval of each column's score."""
    titles = ["network", "data", *result.columns]
    cells = [network, dataset, *(_cell(result.scores[name]) for name in result.columns)]
    rule = "|".join(["", *["---"] * len(titles), ""])
    return f"| {' | '.join(titles)} |\n{rule}", f"| {' | '.join(cells)} |"


def scores_beside(document: Mapping[str, Any]) -> dict[str, dict[str, float]]:
    """Baseline -> its scores, of a document of `run_task`."""
    return {title: found["scores"] for title, found in document.get("beside", {}).items()}


def as_lines(
    result: TaskResult, names: Sequence[str] | None = None, beside: Mapping[str, Mapping[str, float]] | None = None
) -> list[str]:
    """Aligned lines of scores with intervals, for a terminal, and beside each that of each baseline."""
    chosen = list(result.scores) if names is None else list(names)
    width = max((len(name) for name in chosen), default=0)
    others = beside or {}
    lines = []
    for name in chosen:
        more = [f"{title} {_number(scores.get(name))}" for title, scores in others.items()]
        lines.append("  ".join([f"{name.ljust(width)}  {result.scores[name]}", *more]))
    return lines


def settings_of(values: Mapping[str, Any]) -> Settings:
    """Settings from given values; those left out have their defaults. Raises ConfigError."""
    from fra_dist.eval.settings import checked

    return checked(Settings, {key: value for key, value in values.items() if value is not None}, "eval")


def _number(value: float | None) -> str:
    return "-" if value is None or not math.isfinite(value) else f"{value:.4f}"


def _cell(score: Score) -> str:
    return "-" if not math.isfinite(score.value) else f"{score.value:.4f} ({score.low:.4f}–{score.high:.4f})"


def json_value(value: Any) -> Any:
    """Mappings, lists and numbers, numpy's too, as JSON has them: None in place of NaN and infinity."""
    if isinstance(value, Mapping):
        return {str(key): json_value(child) for key, child in value.items()}
    if isinstance(value, list | tuple):
        return [json_value(child) for child in value]
    if hasattr(value, "item") and not isinstance(value, str):
        value = value.item()
    return None if isinstance(value, float) and not math.isfinite(value) else value
