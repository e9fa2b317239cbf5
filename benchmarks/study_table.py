"""Tables of the study from its rows: mean and spread over the seeds, every seed, and paired differences."""

import json
import statistics
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from study_paired import differences
from study_plans import PIXELS, UNTRAINED, variants

from fra_dist.errors import DataError


class Column(NamedTuple):
    title: str
    key: str
    scale: float = 100.0
    places: int = 1
    smaller: bool = False
    """Is better."""


Row = Mapping[str, Any]
Runs = Mapping[str, Mapping[int, Row]]
"""variant -> seed -> row."""
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
    Column("heatmaps: NMI of eyes, nose, mouth", "regions/heatmaps/parts_nmi", 1, 3),
    Column("k-means on features, NMI", "regions/clusters/nmi", 1, 3),
    Column("mIoU", "regions/clusters/miou", 1, 3),
    Column("k-means on features: NMI of eyes, nose, mouth", "regions/clusters/parts_nmi", 1, 3),
    Column("linear probe, mIoU", "regions/probe/miou", 1, 3),
    Column("heatmaps keep their side when mirrored, %", "following/heatmaps/flip/follows"),
    Column("k-means on features", "following/clusters/flip/follows"),
    Column("spread over faces, heatmaps", "following/heatmaps/pose/spread", 1, 3, True),
    Column("k-means on features", "following/clusters/pose/spread", 1, 3, True),
    Column("relation loss / ln Q", "last/loss/relation_ratio", 1, 2, True),
)
HEATMAPS, CLUSTERS = "heatmaps", "clusters"
TURNED = (
    Column("whole photos", "regions/heatmaps/parts_nmi", 1, 2),
    Column("yaw below 30°", "regions/heatmaps/parts_nmi/yaw_0_30", 1, 2),
    Column("30 to 60°", "regions/heatmaps/parts_nmi/yaw_30_60", 1, 2),
    Column("60 to 90°", "regions/heatmaps/parts_nmi/yaw_60_90", 1, 2),
    Column("random crops", "regions/heatmaps/parts_nmi/crops", 1, 2),
    Column("polygons of landmarks, other faces", "polygons/heatmaps/parts_nmi", 1, 2),
)
FLOORS = {
    "random_prototypes": "random prototypes",
    "position": "k-means on position",
    "position_in_parts": "k-means on position, told where parts are",
    "ceiling": "true masks at the size of the map",
    "face_frame": "k-means in the frame of each face, told its landmarks or masks",
}
"""Ways of getting regions that training does not change -> their name."""
EVERY_SEED = (READ[0], READ[1], READ[3], READ[7], REGIONS[2], REGIONS[5])
PAIRS = (
    ("fra", "byol"),
    ("byol_correspondence", "byol"),
    ("fra_correspondence_clusters", "byol_correspondence"),
    ("fra_correspondence_contrast", "byol_correspondence"),
    ("fra_correspondence_contrast", "fra_correspondence_clusters"),
)


def tables(path: Path, size: str, steps: int | None, part: str = "test", overrides: Sequence[str] = ()) -> str:
    """Markdown, of runs of so many steps (None: any). Of several rows of one run the last counts.

    part: that scores are of; overrides: settings that every run was given on the command line. Raises DataError when
    there are none.
    """
    runs = _runs(path, size, steps, part, overrides)
    if not runs:
        raise DataError(f"{path} has no rows of --size {size}" + (f" and {steps} steps" if steps else ""))
    parts = [_about(runs, part), _table(_cells(runs, READ), READ), _table(_cells(runs, REGIONS), REGIONS)]
    turned = [column for column in TURNED if any(column.key in row["scores"] for row in _rows(runs))]
    if len(turned) > 1:
        title = "NMI on eyes, nose and mouth, by head yaw and on random crops:\n\n"
        parts.append(title + _table(_both_ways(runs, turned), turned))
    parts.append("Every seed:\n\n" + _each(runs))
    for one, two in PAIRS:
        if found := differences(runs.get(one, {}), runs.get(two, {}), (*READ, *REGIONS)):
            parts.append(f"`{one}` minus `{two}`, seed by seed:\n\n{found}")
    return "\n\n".join(parts)


def _runs(path: Path, size: str, steps: int | None, part: str, overrides: Sequence[str]) -> Runs:
    try:
        rows = [json.loads(line) for line in path.read_text().splitlines() if line.strip()]
    except (OSError, ValueError) as error:
        raise DataError(f"{path} cannot be read: {error}") from None
    found: dict[str, dict[int, Row]] = {}
    for row in rows:
        about = (row["size"], row.get("part", "test"), row.get("overrides", []))
        if about == (size, part, list(overrides)) and (steps is None or row.get("steps", steps) == steps):
            last = {f"last/{key}": value for key, value in row.get("last", {}).items()}
            found.setdefault(row["variant"], {})[row["seed"]] = {**row, "scores": {**row["scores"], **last}}
    order = [UNTRAINED, PIXELS, *variants()]
    return {name: dict(sorted(found[name].items())) for name in [*order, *found] if name in found}


def _rows(runs: Runs) -> Iterator[Row]:
    return (row for seeds in runs.values() for row in seeds.values())


def _about(runs: Runs, part: str) -> str:
    every = list(_rows(runs))
    steps = sorted({row["steps"] for row in every if "steps" in row})
    images = sorted({row["images"] for row in every if "images" in row})
    sizes = sorted({row["image_size"] for row in every})
    devices = sorted({row["versions"]["device"] for row in every})
    told = [f"{'/'.join(map(str, steps))} steps", f"{'/'.join(f'{n:,}' for n in images)} pictures in training"]
    told += ["scores of the validation parts"] if part == "val" else []
    return ", ".join([every[0]["size"], f"{'/'.join(map(str, sizes))} px", *told, *devices]) + "."


def _cells(runs: Runs, columns: Sequence[Column]) -> dict[str, list[list[float]]]:
    """variant -> values over the seeds, of each column; lines of the floors where regions are asked for."""
    cells = {
        f"{name} ({len(seeds)})": [_values(seeds, column.key) for column in columns] for name, seeds in runs.items()
    }
    if columns is REGIONS:
        cells |= _floors(runs, columns)
    return {name: row for name, row in cells.items() if any(row)}


def _both_ways(runs: Runs, columns: Sequence[Column]) -> dict[str, list[list[float]]]:
    """Lines of heatmaps and of k-means on features of each variant, then of the floors."""
    cells = {
        f"{name}, {words} ({len(seeds)})": [
            _values(seeds, column.key.replace(f"/{HEATMAPS}/", f"/{way}/")) for column in columns
        ]
        for name, seeds in runs.items()
        for way, words in ((HEATMAPS, "heatmaps"), (CLUSTERS, "k-means on features"))
    }
    return {name: row for name, row in (cells | _floors(runs, columns)).items() if any(row)}


def _floors(runs: Runs, columns: Sequence[Column]) -> dict[str, list[list[float]]]:
    found = {}
    for way, name in FLOORS.items():
        keys = [column.key.replace(f"/{HEATMAPS}/", f"/{way}/") for column in columns]
        known = [seeds for seeds in runs.values() if any(_values(seeds, key) for key in keys)]
        if known:
            values = [
                _values(known[0], key) if key != column.key else [] for key, column in zip(keys, columns, strict=True)
            ]
            found[f"{name} ({len(known[0])})"] = values
    return found


def _values(seeds: Mapping[int, Row], key: str) -> list[float]:
    return [row["scores"][key] for row in seeds.values() if row["scores"].get(key) is not None]


def _each(runs: Runs) -> str:
    """A line for each variant and seed."""
    lines = [f"| run | seed | {' | '.join(c.title for c in EVERY_SEED)} |", "|---" * (len(EVERY_SEED) + 2) + "|"]
    for name, seeds in runs.items():
        for seed, row in seeds.items():
            known = [row["scores"].get(column.key) for column in EVERY_SEED]
            pairs = zip(known, EVERY_SEED, strict=True)
            texts = ["-" if value is None else f"{value * c.scale:.{c.places}f}" for value, c in pairs]
            lines.append(f"| {name} | {seed} | {' | '.join(texts)} |")
    return "\n".join(lines)


def _table(cells: Mapping[str, Sequence[Sequence[float]]], columns: Sequence[Column]) -> str:
    lines = [f"| run (seeds) | {' | '.join(c.title for c in columns)} |", "|---" * (len(columns) + 1) + "|"]
    for name, row in cells.items():
        texts = [_text([v * c.scale for v in values], c.places) for values, c in zip(row, columns, strict=True)]
        lines.append(f"| {name} | {' | '.join(texts)} |")
    return "\n".join(lines)


def _text(values: Sequence[float], places: int) -> str:
    """mean ± standard deviation."""
    if not values:
        return "-"
    mean = f"{statistics.mean(values):.{places}f}"
    return mean if len(values) == 1 else f"{mean} ± {statistics.stdev(values):.{places}f}"
