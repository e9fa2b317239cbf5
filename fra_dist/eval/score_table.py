"""Scores as tables, for a terminal or a page."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from fra_dist.eval.regions.agreement import RegionScores
from fra_dist.eval.suite import CLUSTERS, HEATMAPS, POSITION, POSITION_IN_PARTS, Scores

HOW = {
    HEATMAPS: "heatmaps",
    CLUSTERS: "k-means on features",
    POSITION: "k-means on position",
    POSITION_IN_PARTS: "k-means on position, told where the parts are",
}


@dataclass(frozen=True)
class Column:
    title: str
    digits: int = 3
    higher_is_better: bool | None = True
    """None: neither."""


@dataclass(frozen=True)
class Table:
    title: str
    note: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[str, tuple[float | None, ...]], ...]
    """(label, a value for each column); None: does not apply."""


_PROBES = {
    "expression/linear_accuracy": Column("expression, linear"),
    "expression/knn_accuracy": Column("expression, kNN"),
    "attributes/linear_balanced": Column("attributes, balanced"),
    "attributes/linear_auc": Column("attributes, AUC"),
    "identity/knn_accuracy": Column("identity, kNN"),
    "landmarks/linear_nme": Column("landmarks, NME", 4, higher_is_better=False),
}


def region_table(scores: Sequence[Scores]) -> Table:
    """One row for each network and each way it got regions."""
    columns = (
        Column("NMI"), Column("mIoU"), Column("mIoU, majority"), Column("ARI"), Column("parts NMI"),
        Column("parts mIoU"), Column("in use", 0, higher_is_better=None),
    )  # fmt: skip
    rows = [
        (HOW[how] if how in (POSITION, POSITION_IN_PARTS) else f"{one.name}, {HOW[how]}", _region_values(how, found))
        for one in scores
        for how, found in one.regions.items()
    ]
    note = (
        "Regions against the true masks. mIoU: one region for each class (Hungarian matching); majority: every region "
        "takes the name of its most frequent class. Parts: over the pixels of brows, eyes, nose and mouth only."
    )
    return Table("Regions", note, columns, tuple(rows))


def probe_table(scores: Sequence[Scores]) -> Table:
    """One row for each network; only columns that any of them has."""
    present = {key: column for key, column in _PROBES.items() if any(key in one.probes for one in scores)}
    rows = [
        ("constant guess" if one.name == "guess" else one.name, tuple(one.probes.get(key) for key in present))
        for one in scores
        if one.probes
    ]
    note = (
        "Frozen features: ridge regression (linear) and nearest neighbours (kNN), fitted on one part of the people, "
        "tested on another. Landmarks: mean error of 68 points over the distance of the outer eye corners."
    )
    return Table("Frozen features", note, tuple(present.values()), tuple(rows))


def as_text(table: Table) -> str:
    """Aligned columns; the best value of each is marked with `*`."""
    best = [best_of([values[k] for _, values in table.rows], column) for k, column in enumerate(table.columns)]
    grid = [[table.title, *(column.title + " " for column in table.columns)]]
    for label, values in table.rows:
        marks = ["*" if value is not None and value == top else " " for value, top in zip(values, best, strict=True)]
        numbers = [shown(value, column) for value, column in zip(values, table.columns, strict=True)]
        grid.append([label, *(number + mark for number, mark in zip(numbers, marks, strict=True))])
    widths = [max(len(row[k]) for row in grid) for k in range(len(grid[0]))]
    lines = [
        row[0].ljust(widths[0]) + "".join("  " + cell.rjust(w) for cell, w in zip(row[1:], widths[1:], strict=True))
        for row in grid
    ]
    return "\n".join(line.rstrip() for line in lines)


def shown(value: float | None, column: Column) -> str:
    """A number as the column shows it; `-` for none."""
    return "-" if value is None or math.isnan(value) else f"{value:.{column.digits}f}"


def best_of(values: Sequence[float | None], column: Column) -> float | None:
    """The best of a column, None when it has no better and worse or fewer than two numbers."""
    numbers = [value for value in values if value is not None and not math.isnan(value)]
    if column.higher_is_better is None or len(numbers) < 2:
        return None
    return max(numbers) if column.higher_is_better else min(numbers)


def _region_values(how: str, found: RegionScores) -> tuple[float | None, ...]:
    whole, parts = found.everything, found.parts
    everything = (whole.nmi, whole.miou, whole.miou_majority, whole.ari)
    if how == POSITION_IN_PARTS:  # its clusters lie in the middle of the face: over all pixels they mean nothing
        everything = (None,) * 4  # type: ignore[assignment]
    return (*everything, parts.nmi if parts else None, parts.miou if parts else None, found.in_use)
