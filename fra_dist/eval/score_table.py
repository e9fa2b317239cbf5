"""Scores as tables, for a terminal or a page."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from fra_dist.eval.quick_look import GUESS, OF_NO_NETWORK, Look
from fra_dist.eval.score_grid import aligned
from fra_dist.eval.tasks.common import TaskResult
from fra_dist.eval.tasks.region_truth import ONLY_PARTS

HOW = {
    "heatmaps": "heatmaps",
    "clusters": "k-means on features",
    "random_prototypes": "random prototypes",
    "position": "k-means on position",
    "position_in_parts": "k-means on position inside the parts",
    "ceiling": "ceiling: true masks at the size of the map",
    "face_frame": "oracle: k-means on position in the frame of each face",
}
"""Way of getting regions -> its name in the table."""


@dataclass(frozen=True)
class Column:
    """How a column of a table of scores is headed, rounded and read."""

    title: str
    """Heading of the column."""
    digits: int = 3
    """Digits after the decimal point."""
    higher_is_better: bool | None = True
    """Which direction is better; None: neither."""


@dataclass(frozen=True)
class Table:
    """A table of scores: labelled rows, a title and a note on how to read it."""

    title: str
    """Heading of the table."""
    note: str
    """How to read the table, in a few sentences."""
    columns: tuple[Column, ...]
    """The columns after that of the row labels."""
    rows: tuple[tuple[str, tuple[float | None, ...]], ...]
    """(label, a value for each column); None: does not apply."""


_READ = {
    ("expression", "linear/100%/accuracy"): Column("expression, linear"),
    ("expression", "knn/100%/accuracy"): Column("expression, kNN"),
    ("attributes", "linear/100%/balanced"): Column("attributes, balanced"),
    ("attributes", "linear/100%/auc"): Column("attributes, AUC"),
    ("verification", "centred/accuracy"): Column("same person, accuracy"),
    ("verification", "centred/auc"): Column("same person, AUC"),
    ("alignment", "linear/100%/nme_inter_ocular"): Column("landmarks, NME", 4, higher_is_better=False),
    ("alignment", "linear/100%/nme_diagonal"): Column("landmarks, NME (diagonal)", 4, higher_is_better=False),
}
"""Task and score -> column; of the two landmark errors the first that a set has is shown."""


def region_table(looks: Sequence[Look]) -> Table:
    """One row for each network and each way it got regions."""
    columns = (
        Column("NMI"), Column("mIoU"), Column("mIoU, majority"), Column("ARI"), Column("parts NMI"),
        Column("parts mIoU"), Column("in use", 0, higher_is_better=None),
    )  # fmt: skip
    rows = [
        (HOW[way] if way in OF_NO_NETWORK else f"{look.name}, {HOW[way]}", _region_values(way, result))
        for look in looks
        if (result := look.results.get("regions")) is not None
        for way in HOW
        if way in result.details
    ]
    note = (
        "Regions of the test faces against the true masks. mIoU: one region for each class (Hungarian matching); "
        "majority: every region takes the name of its most frequent class. Parts: over the pixels of brows, eyes, nose "
        "and mouth only. k-means was fitted on other faces."
    )
    return Table("Regions", note, columns, tuple(rows))


def read_table(looks: Sequence[Look]) -> Table:
    """What frozen features know: one row for each network; only columns that any of them has."""
    values = {look.name: {key: _score(look, *key) for key in _READ} for look in looks}
    present = [key for key in _READ if any(found[key] is not None for found in values.values())]
    if ("alignment", "linear/100%/nme_inter_ocular") in present:
        present = [key for key in present if key[1] != "linear/100%/nme_diagonal"]
    rows = [
        ("constant guess" if name == GUESS else name, tuple(found[key] for key in present))
        for name, found in values.items()
        if any(found[key] is not None for key in present)
    ]
    note = (
        "Frozen features: ridge regression (linear) and nearest neighbours (kNN), fitted on one part of the people, "
        "tested on another. Same person: pairs of test photos, by the cosine of their centred features. Landmarks: "
        "mean error of the points over the distance of the outer eye corners."
    )
    return Table("Frozen features", note, tuple(_READ[key] for key in present), tuple(rows))


def as_text(table: Table) -> str:
    """The table as text for a terminal: aligned columns, the best value of each marked with `*`."""
    best = [best_of([values[k] for _, values in table.rows], column) for k, column in enumerate(table.columns)]
    grid = [[table.title, *(column.title + " " for column in table.columns)]]
    for label, values in table.rows:
        marks = ["*" if value is not None and value == top else " " for value, top in zip(values, best, strict=True)]
        numbers = [shown(value, column) for value, column in zip(values, table.columns, strict=True)]
        grid.append([label, *(number + mark for number, mark in zip(numbers, marks, strict=True))])
    return "\n".join(aligned(grid))


def shown(value: float | None, column: Column) -> str:
    """A number as the column shows it; `-` for none."""
    return "-" if value is None or math.isnan(value) else f"{value:.{column.digits}f}"


def best_of(values: Sequence[float | None], column: Column) -> float | None:
    """The best of a column, None when it has no better and worse or fewer than two numbers."""
    numbers = [value for value in values if value is not None and not math.isnan(value)]
    if column.higher_is_better is None or len(numbers) < 2:
        return None
    return max(numbers) if column.higher_is_better else min(numbers)


def _region_values(way: str, result: TaskResult) -> tuple[float | None, ...]:
    """Where clusters lie in the middle of the face, over all pixels they mean nothing."""
    detail = result.details[way]
    nmi, miou, ari, parts_nmi, parts_miou = (
        score.value if (score := result.scores.get(f"{way}/{name}")) else None
        for name in ("nmi", "miou", "ari", "parts_nmi", "parts_miou")
    )
    majority = None if way in ONLY_PARTS else detail["miou_majority"]
    return nmi, miou, majority, ari, parts_nmi, parts_miou, detail["in_use"]


def _score(look: Look, task: str, name: str) -> float | None:
    result = look.results.get(task)
    return result.scores[name].value if result is not None and name in result.scores else None
