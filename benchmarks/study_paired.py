"""Differences between two variants of the study, seed by seed, with two intervals.

Over seeds: mean ± t · s/√n (Student's t with n − 1 degrees of freedom, 95 %), what another start of both runs may give.
Over people: percentiles 2.5 to 97.5 of the mean difference in each bootstrap draw of the test people, which all rows
share, what other test people may give. Neither holds the other's share of chance.
"""

import statistics
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np
from scipy.stats import t as student
from study_measure import UNIT


class Column(Protocol):
    @property
    def key(self) -> str: ...
    @property
    def scale(self) -> float: ...
    @property
    def places(self) -> int: ...
    @property
    def smaller(self) -> bool: ...


Row = Mapping[str, Any]
LEVEL = 0.95


def differences(one: Mapping[int, Row], two: Mapping[int, Row], columns: Sequence[Column]) -> str:
    """Markdown: the first less the second, over the seeds that both have; empty when there is none.

    A network without a decoder has no heatmaps: k-means on its features stands against them.
    """
    common = sorted(one.keys() & two.keys())
    lines = [
        "| score | difference | of the second | over seeds | over people | the first is better in |",
        "|---" * 6 + "|",
    ]
    for column in columns:
        key = column.key
        others = [two[seed]["scores"] for seed in common]
        other = key if any(key in scores for scores in others) else key.replace("/heatmaps/", "/clusters/")
        pairs = [(one[seed], two[seed]) for seed in common]
        known = [(a, b) for a, b in pairs if a["scores"].get(key) is not None and b["scores"].get(other) is not None]
        if not known:
            continue
        gaps = [(a["scores"][key] - b["scores"][other]) * column.scale for a, b in known]
        base = statistics.mean(b["scores"][other] for _, b in known) * column.scale
        share = f"{100 * statistics.mean(gaps) / base:+.1f} %" if base else "-"
        better = sum((gap < 0) == column.smaller and gap != 0 for gap in gaps)
        name = f"`{key}`" + ("" if other == key else f" against `{other}`")
        drawn = [
            (a["drawn"][key], b["drawn"][other])
            for a, b in known
            if key in a.get("drawn", {}) and other in b.get("drawn", {})
        ]
        people = over_people(drawn, column.scale * UNIT) if len(drawn) == len(known) else None
        cells = [
            name,
            _text(gaps, column.places),
            share,
            _interval(over_seeds(gaps), column.places),
            _interval(people, column.places),
            f"{better} of {len(gaps)}",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) if len(lines) > 2 else ""


def over_seeds(gaps: Sequence[float]) -> tuple[float, float] | None:
    """The interval of the mean of differences; None for a single one."""
    if len(gaps) < 2:
        return None
    mean, error = statistics.mean(gaps), statistics.stdev(gaps) / len(gaps) ** 0.5
    width = float(student.ppf((1 + LEVEL) / 2, len(gaps) - 1)) * error
    return mean - width, mean + width


def over_people(drawn: Sequence[tuple[Sequence[int], Sequence[int]]], scale: float) -> tuple[float, float]:
    """The interval of the mean over seeds of differences between draws, of which each seed has the same number."""
    gaps = np.mean([np.subtract(a, b) for a, b in drawn], axis=0) * scale
    low, high = np.percentile(gaps, [50 * (1 - LEVEL), 50 * (1 + LEVEL)])
    return float(low), float(high)


def _interval(found: tuple[float, float] | None, places: int) -> str:
    return "-" if found is None else f"{found[0]:+.{places}f} to {found[1]:+.{places}f}"


def _text(gaps: Sequence[float], places: int) -> str:
    """mean ± standard deviation."""
    mean = f"{statistics.mean(gaps):+.{places}f}"
    return mean if len(gaps) == 1 else f"{mean} ± {statistics.stdev(gaps):.{places}f}"
