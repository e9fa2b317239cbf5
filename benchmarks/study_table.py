"""Tables of the study from its rows: mean and spread over the seeds, and FRA minus BYOL seed by seed."""

import json
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from fra_dist.errors import DataError


class Column(NamedTuple):
    title: str
    key: str
    scale: float = 100.0
    places: int = 1
    smaller: bool = False
    """Is better."""


READ = (
    Column("landmarks, MAE % of side", "landmarks68/linear/100%/mae_of_side", 100, 3, True),
    Column("the same, 10 % of labels", "landmarks68/linear/10%/mae_of_side", 100, 3, True),
    Column("NME % of eye distance", "landmarks68/linear/100%/nme_inter_ocular", 100, 2, True),
    Column("gender, balanced %", "attributes/linear/100%/balanced"),
    Column("10 % of labels", "attributes/linear/10%/balanced"),
    Column("1 %", "attributes/linear/1%/balanced"),
    Column("age, MAE years", "attributes/linear/100%/age_mae", 1, 2, True),
    Column("expression, balanced %", "expression/linear/100%/balanced"),
    Column("10 % of labels", "expression/linear/10%/balanced"),
    Column("nearest neighbours", "expression/knn/100%/balanced"),
)
REGIONS = (
    Column("heatmaps, NMI", "regions/heatmaps/nmi", 1, 3),
    Column("mIoU", "regions/heatmaps/miou", 1, 3),
    Column("NMI of eyes, nose, mouth", "regions/heatmaps/parts_nmi", 1, 3),
    Column("k-means on features, NMI", "regions/clusters/nmi", 1, 3),
    Column("mIoU", "regions/clusters/miou", 1, 3),
    Column("NMI of eyes, nose, mouth", "regions/clusters/parts_nmi", 1, 3),
    Column("linear probe, mIoU", "regions/probe/miou", 1, 3),
    Column("heatmaps keep their side when mirrored, %", "following/heatmaps/flip/follows"),
    Column("k-means on features", "following/clusters/flip/follows"),
    Column("spread over faces, heatmaps", "following/heatmaps/pose/spread", 1, 3, True),
    Column("k-means on features", "following/clusters/pose/spread", 1, 3, True),
    Column("relation loss / ln Q", "last/loss/relation_ratio", 1, 2, True),
)
POSITION = "k-means on position"


def tables(path: Path, size: str, steps: int | None) -> str:
    """Markdown, of runs of so many steps (None: any). Of several rows of one run the last counts.

    Raises DataError when there are none.
    """
    runs = _runs(path, size, steps)
    if not runs:
        raise DataError(f"{path} has no rows of --size {size}" + (f" and {steps} steps" if steps else ""))
    parts = [_about(runs), _table(_cells(runs, READ), READ), _table(_cells(runs, REGIONS), REGIONS)]
    if paired := _differences(runs, "fra", "byol"):
        parts.append("FRA minus BYOL, seed by seed; ± is the standard deviation of the differences:\n\n" + paired)
    return "\n\n".join(parts)


def _runs(path: Path, size: str, steps: int | None) -> dict[str, dict[int, dict[str, Any]]]:
    """variant -> seed -> row."""
    try:
        rows = [json.loads(line) for line in path.read_text().splitlines() if line.strip()]
    except (OSError, ValueError) as error:
        raise DataError(f"{path} cannot be read: {error}") from None
    found: dict[str, dict[int, dict[str, Any]]] = {}
    for row in rows:
        if row["size"] == size and (steps is None or row.get("steps", steps) == steps):
            last = {f"last/{key}": value for key, value in row.get("last", {}).items()}
            found.setdefault(row["variant"], {})[row["seed"]] = {**row, "scores": {**row["scores"], **last}}
    return found


def _about(runs: Mapping[str, Mapping[int, Mapping[str, Any]]]) -> str:
    every = [row for seeds in runs.values() for row in seeds.values()]
    steps = sorted({row["steps"] for row in every if "steps" in row})
    images = sorted({row["images"] for row in every if "images" in row})
    sizes = sorted({row["image_size"] for row in every})
    devices = sorted({row["versions"]["device"] for row in every})
    told = [f"{'/'.join(map(str, steps))} steps", f"{'/'.join(f'{n:,}' for n in images)} pictures in training"]
    return ", ".join([every[0]["size"], f"{'/'.join(map(str, sizes))} px", *told, *devices]) + "."


def _cells(
    runs: Mapping[str, Mapping[int, Mapping[str, Any]]], columns: Sequence[Column]
) -> dict[str, list[list[float]]]:
    """variant -> values over the seeds, of each column; a line for position where regions are asked for."""
    cells = {
        f"{name} ({len(seeds)})": [_values(seeds, column.key) for column in columns] for name, seeds in runs.items()
    }
    if columns is REGIONS and "fra" in runs:
        keys = [column.key.replace("/heatmaps/", "/position/") for column in columns]
        cells[f"{POSITION} ({len(runs['fra'])})"] = [
            _values(runs["fra"], key) if key != column.key else [] for key, column in zip(keys, columns, strict=True)
        ]
    return {name: row for name, row in cells.items() if any(row)}


def _values(seeds: Mapping[int, Mapping[str, Any]], key: str) -> list[float]:
    return [row["scores"][key] for row in seeds.values() if row["scores"].get(key) is not None]


def _differences(runs: Mapping[str, Mapping[int, Mapping[str, Any]]], one: str, two: str) -> str:
    """What both have: mean difference and spread, as a share of the second, and in how many seeds the first is better.

    A network without a decoder has no heatmaps: k-means on its features stands against them.
    """
    if one not in runs or two not in runs:
        return ""
    common = sorted(runs[one].keys() & runs[two].keys())
    lines = ["| score | difference | of BYOL's | FRA is better in |", "|---|---|---|---|"]
    for column in (*READ, *REGIONS):
        other = column.key.replace("/heatmaps/", "/clusters/")
        pairs = [(runs[one][s]["scores"].get(column.key), runs[two][s]["scores"].get(other)) for s in common]
        known = [(a, b) for a, b in pairs if a is not None and b is not None]
        if not known:
            continue
        gaps = [(a - b) * column.scale for a, b in known]
        base = statistics.mean(b for _, b in known) * column.scale
        better = sum((gap < 0) == column.smaller and gap != 0 for gap in gaps)
        share = f"{100 * statistics.mean(gaps) / base:+.1f} %" if base else "-"
        name = f"`{column.key}`" + ("" if other == column.key else f" against `{other}`")
        lines.append(f"| {name} | {_text(gaps, column.places, '+')} | {share} | {better} of {len(gaps)} |")
    return "\n".join(lines) if len(lines) > 2 else ""


def _table(cells: Mapping[str, Sequence[Sequence[float]]], columns: Sequence[Column]) -> str:
    lines = [f"| run (seeds) | {' | '.join(c.title for c in columns)} |", "|---" * (len(columns) + 1) + "|"]
    for name, row in cells.items():
        texts = [_text([v * c.scale for v in values], c.places) for values, c in zip(row, columns, strict=True)]
        lines.append(f"| {name} | {' | '.join(texts)} |")
    return "\n".join(lines)


def _text(values: Sequence[float], places: int, sign: str = "") -> str:
    """mean ± standard deviation."""
    if not values:
        return "-"
    mean = f"{statistics.mean(values):{sign}.{places}f}"
    return mean if len(values) == 1 else f"{mean} ± {statistics.stdev(values):.{places}f}"
