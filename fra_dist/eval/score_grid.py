"""Scores named ROW/COLUMN as a table, so that a network stands among its floors and oracles."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from fra_dist.eval.scores.intervals import Score

OWN = ("heatmaps", "clusters", "probe")
"""Rows that depend on the network, which its baselines have too."""


@dataclass(frozen=True)
class Grid:
    """A table of scores with intervals: named columns, and named rows that may lack some of the scores."""

    columns: tuple[str, ...]
    """Names of the columns."""
    rows: tuple[tuple[str, tuple[Score | None, ...]], ...]
    """For each row its name and a score for each column, None where the row has none."""


def with_beside(grid: Grid, beside: Mapping[str, Mapping[str, float]], rows: Sequence[str]) -> Grid:
    """The grid with rows of the baselines added, as `NAME ROW`: those of `rows` that a baseline has.

    beside: value of each score by the baseline's name.
    """
    more = []
    for title, scores in beside.items():
        for row in rows:
            values = [scores.get(f"{row}/{column}") for column in grid.columns]
            if any(value is not None for value in values):
                cells = tuple(None if v is None else Score(v, math.nan, math.nan, 0) for v in values)
                more.append((f"{title} {row}", cells))
    return Grid(grid.columns, (*grid.rows, *more))


def grid_of(scores: Mapping[str, Score], names: Sequence[str]) -> Grid:
    """The scores as a grid, in the order of `names`; what stands before the first `/` of a name is its row."""
    pairs = [(name, *name.split("/", 1)) for name in names if "/" in name]
    columns = tuple(dict.fromkeys(column for _, _, column in pairs))
    found = {(row, column): scores[name] for name, row, column in pairs}
    rows = dict.fromkeys(row for _, row, _ in pairs)
    return Grid(columns, tuple((row, tuple(found.get((row, column)) for column in columns)) for row in rows))


def as_columns(grid: Grid) -> list[str]:
    """The grid as aligned columns for a terminal: each value, ± half of its interval. Long headings take two lines."""
    heads = [column.rpartition("/") for column in grid.columns]
    cells = [["", *(group for group, _, _ in heads)], ["", *(name for _, _, name in heads)]]
    cells += [[name, *(_short(score) for score in scores)] for name, scores in grid.rows]
    return [line for line in aligned(cells) if line]


def aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """Cells as lines for a terminal: the first column to the left, the others to the right; no trailing blanks."""
    widths = [max(len(row[k]) for row in rows) for k in range(len(rows[0]))]
    cells = [[row[0].ljust(widths[0]), *(c.rjust(w) for c, w in zip(row[1:], widths[1:], strict=True))] for row in rows]
    return ["  ".join(row).rstrip() for row in cells]


def as_markdown(grid: Grid) -> list[str]:
    """The grid as lines of a Markdown table: each value and its interval."""
    titles = ["regions", *grid.columns]
    rows = [[name, *(_long(score) for score in scores)] for name, scores in grid.rows]
    return [f"| {' | '.join(cells)} |" for cells in (titles, ["---"] * len(titles), *rows)]


def _short(score: Score | None) -> str:
    if score is None or not math.isfinite(score.value):
        return "-"
    half = (score.high - score.low) / 2
    return f"{score.value:.3f}" + (f" ±{half:.3f}" if math.isfinite(half) else "")


def _long(score: Score | None) -> str:
    if score is None or not math.isfinite(score.value):
        return "-"
    interval = f" ({score.low:.3f}–{score.high:.3f})" if math.isfinite(score.low + score.high) else ""
    return f"{score.value:.3f}{interval}"
