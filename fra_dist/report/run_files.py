"""What the report of runs reads: the files that a run and its evaluations leave behind."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fra_dist import files
from fra_dist.config import Config, load_config
from fra_dist.errors import DataError
from fra_dist.json_lines import number_in, read_rows, step_of_row, thinned
from fra_dist.train.run_dir.no_run import SETTINGS, no_run

_SHOWN = (
    *("start", "resume", "complete", "stopped", "launch restart", "launch failed", "launch stopped", "guard", "alarm"),
    *("alarm over", "watchdog", "straggler", "warning"),
)
"""Events of the history that a reader of a report wants to see."""

MAP = "map.json"
"""The file with the data of a map of embeddings."""


@dataclass(frozen=True)
class RunFiles:
    """What a report shows of one run, read from its run folder."""

    path: Path
    """The run folder."""
    name: str
    """What the report calls it: the folder's name, longer where two runs share that."""
    config: Config
    """Its configuration."""
    rows: Sequence[Mapping[str, Any]]
    """Rows of metrics.jsonl, thinned evenly where there are many."""
    events: Sequence[Mapping[str, Any]]
    """What happened: rows of history.jsonl without the checkpoints."""
    checkpoints: int
    """How many checkpoints were written."""

    @property
    def resumed_at(self) -> list[float]:
        """Steps at which the run was resumed or went back."""
        rows = [row for row in self.events if row["event"] == "resume" or (row["event"] == "guard" and "to" in row)]
        return [float(row.get("to", row.get("step", 0))) for row in rows]

    @property
    def state(self) -> str:
        """How the run ended, by its history: "complete", "stopped" or "not complete"."""
        words = [str(row["event"]) for row in self.events if row["event"] in ("start", "resume", "complete", "stopped")]
        return {"complete": "complete", "stopped": "stopped"}.get(words[-1] if words else "", "not complete")

    def series(self, key: str) -> list[tuple[float, float]]:
        """(step, value) of the rows that have a number under `key`; of rows of one step the last."""
        found = {}
        for row in self.rows:
            step, value = step_of_row(dict(row)), number_in(row, key)
            if step is not None and value is not None:
                found[float(step)] = value
        return sorted(found.items())


def read_runs(folders: Sequence[Path]) -> list[RunFiles]:
    """Read the runs. Raises DataError for a folder that holds no run, and for one that is given twice."""
    if len({folder.resolve() for folder in folders}) < len(folders):
        raise DataError("one of the runs is given twice")
    names = _names([folder.resolve() for folder in folders])
    return [_read(folder, name) for folder, name in zip(folders, names, strict=True)]


def refuse_no_run(folder: Path) -> None:
    """Raise DataError for a folder that holds no run; needs no torch."""
    if not files.exists(folder / SETTINGS):
        raise DataError(no_run(folder))


def refuse_no_results(folder: Path) -> None:
    """Raise DataError for a folder of results that is not there; needs no torch."""
    if not files.is_folder(folder):
        raise DataError(f"{folder} is not a folder with results of `fra-dist eval --out`")


def refuse_no_map(folder: Path) -> None:
    """Raise DataError for a folder of maps of embeddings that is not there; needs no torch."""
    if not files.is_folder(folder):
        raise no_map(folder)


def no_map(folder: Path) -> DataError:
    """The error about a folder without a map of embeddings."""
    return DataError(f"{folder} holds no map of embeddings ({MAP}), as fra-dist embed --out writes it")


def _read(folder: Path, name: str) -> RunFiles:
    refuse_no_run(folder)
    history = [row for row in read_rows(folder / "history.jsonl") if isinstance(row.get("event"), str)]
    events = [row for row in history if row["event"] in _SHOWN]
    saved = sum(row["event"] == "checkpoint" for row in history)
    return RunFiles(folder, name, load_config(folder / "config.yaml"), thinned(folder / "metrics.jsonl"), events, saved)


def _names(folders: Sequence[Path]) -> list[str]:
    """The shortest ends of the paths that tell them apart."""
    for parts in range(1, 20):
        names = ["/".join(folder.parts[-parts:]) for folder in folders]
        if len(set(names)) == len(names):
            return names
    return [str(folder) for folder in folders]


def read_evaluations(folders: Iterable[Path]) -> list[dict[str, Any]]:
    """Read every result.json below the folders, as `fra-dist eval` writes them, in the order of their paths.

    Raises DataError for a folder that is not there.
    """
    found = []
    for folder in folders:
        refuse_no_results(folder)
        for path in files.paths_below(folder, "result.json"):
            document = files.read_object(path)
            if document and isinstance(document.get("scores"), dict):
                found.append({**document, "path": str(path.parent)})
    return found
