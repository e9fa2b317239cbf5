"""Results of `fra-dist eval` as tables: each score beside an untrained network and pixels, and in words who wins."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

_LOWER = ("nme", "mae", "error", "loss", "eer", "auc_error")
_FLOORS = {"untrained": "an untrained network", "pixels": "pixels"}


@dataclass(frozen=True)
class ScoreTable:
    """The scores of one evaluation as a table of texts, and sentences about the baselines that win."""

    title: str
    """Title of the table."""
    head: Sequence[str]
    """Headings of the columns."""
    rows: Sequence[Sequence[str]]
    """One row for each score: its name, value, interval, and the values of the baselines."""
    verdicts: Sequence[str]
    """Sentences about scores that a floor wins."""


def tables_of(documents: Sequence[Mapping[str, Any]]) -> list[ScoreTable]:
    """Return one table for each document, which is the content of a result.json of `fra-dist eval`."""
    return [_table(document) for document in documents]


def lower_is_better(score: str) -> bool:
    """Whether a smaller value of this score is the better one, as of errors."""
    words = score.lower().replace("/", "_").split("_")
    return any(word in words for word in _LOWER)


def _table(document: Mapping[str, Any]) -> ScoreTable:
    beside = {name: one.get("scores", {}) for name, one in document.get("beside", {}).items()}
    rows, verdicts = [], []
    for name, score in document["scores"].items():
        value = score.get("value") if isinstance(score, Mapping) else score
        if not isinstance(value, int | float):
            continue
        low = lower_is_better(name)
        label = f"{name} (lower is better)" if low else name
        others = [beside[floor].get(name) for floor in beside]
        rows.append((label, _text(value), _interval(score), *(_text(other) for other in others)))
        for floor, other in zip(beside, others, strict=True):
            if isinstance(other, int | float) and (other < value if low else other > value):
                verdicts.append(
                    f"{name}: worse than {_FLOORS.get(floor, floor)} ({_text(value)} against {_text(other)})"
                )
    network = document.get("network", {})
    about = network.get("checkpoint") or network.get("name") or ""
    dataset = document.get("dataset", {})
    title = f"{document.get('task', '')} on {dataset.get('name', '')}: {about}".strip(": ")
    return ScoreTable(title, ("score", "value", "interval", *beside), rows, verdicts)


def _text(value: Any) -> str:
    return f"{value:.4f}" if isinstance(value, int | float) else "–"


def _interval(score: Any) -> str:
    if isinstance(score, Mapping) and isinstance(score.get("low"), int | float):
        return f"{score['low']:.4f} to {score['high']:.4f}"
    return "–"
