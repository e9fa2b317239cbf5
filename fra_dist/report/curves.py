"""Curves of one run or of several over each other, from the rows of `metrics.jsonl`."""

import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from fra_dist.json_lines import number_in

Rows = Sequence[Mapping[str, Any]]
Runs = Mapping[str, Rows]
"""Rows of `metrics.jsonl` by the name of the run, in the order in which runs are drawn."""


@dataclass(frozen=True)
class Panel:
    """One chart of a report: its title, the metrics that it draws as lines, and where its axis begins."""

    title: str
    """Title of the picture."""
    lines: Mapping[str, str]
    """Name of each line, and the key of the row that it shows."""
    floor: float | None = None
    """Value at which the vertical axis begins; None: chosen by the data."""


PANELS: Mapping[str, Panel] = {
    "correspondence": Panel(
        "Correspondence (1: no place known, 0: all found)", {"correspondence": "loss/correspondence_ratio"}, floor=0
    ),
    "relation": Panel("Semantic relation loss", {"relation": "loss/relation"}),
    "total": Panel("Total loss", {"total": "loss/total"}),
    "consistency": Panel("Consistency losses", {"global": "loss/global", "local": "loss/local"}),
    "in_use": Panel("Regions that hold 1 % of the pixels or more", {"regions": "regions/in_use"}, floor=0),
    "share": Panel("Smallest share of the pixels of a region", {"share": "regions/min_share"}, floor=0),
    "queries": Panel("Mean cosine between queries", {"cosine": "queries/cosine"}),
    "spread": Panel("Spread of the image embeddings (0: collapsed)", {"spread": "embedding/spread"}, floor=0),
    "rank": Panel("Directions of the image embeddings", {"rank": "embedding/rank"}, floor=0),
    "overlap": Panel("Overlap of the regions (1: all alike)", {"overlap": "regions/overlap"}, floor=0),
    "lr": Panel("Learning rate", {"rate": "lr"}, floor=0),
    "momentum": Panel("Momentum of the target network", {"momentum": "ema_momentum"}),
    "speed": Panel("Images a second", {"images/s": "images_per_second"}, floor=0),
    "memory": Panel("Memory of rank 0, MiB", {"MiB": "memory_mib"}, floor=0),
    "wait": Panel("Share of the time spent waiting for data", {"wait": "data_wait"}, floor=0),
}
INK, PALE_INK, FAINT = "#22252b", "#e4e6ea", "#8a8f99"
_LIGHT = ("#0072b2", "#d55e00", "#009e73", "#a8467d", "#7a6000", "#3d3d3d")
_DARK = ("#6cb8f0", "#ff9b54", "#45d0a5", "#e8a1cb", "#e6c65a", "#d0d0d0")
_STYLES = ("-", "--", ":", "-.")
_THEME: Any = {
    "font.family": "DejaVu Sans", "font.size": 9, "axes.titlesize": 10, "text.color": INK, "axes.labelcolor": INK,
    "axes.edgecolor": FAINT, "xtick.color": FAINT, "ytick.color": FAINT, "xtick.labelcolor": INK,
    "ytick.labelcolor": INK, "axes.spines.top": False, "axes.spines.right": False, "axes.facecolor": "none",
    "axes.grid": True, "grid.color": FAINT, "grid.alpha": 0.22, "grid.linewidth": 0.6, "svg.fonttype": "path",
    "svg.hashsalt": "fra_dist",
}  # fmt: skip


def draw_curves(runs: Runs, path: Path, regions: int = 8) -> None:
    """Draw every panel that has data into one figure, as a PNG. Nothing is written when no row has a value."""
    panels = {**{name: panel for name, panel in PANELS.items() if has_data(name, runs)}, **probe_panels(runs)}
    if not panels:
        return
    columns = min(3, len(panels))
    rows = -(-len(panels) // columns)
    with rc_context(_THEME):
        figure = Figure(figsize=(4.4 * columns, 2.9 * rows), layout="constrained", facecolor="white")
        for place, (name, panel) in enumerate(panels.items()):
            _draw(figure.add_subplot(rows, columns, place + 1), name, panel, runs, regions)
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, dpi=130)


def panel_svg(name: str, runs: Runs, regions: int = 8) -> bytes:
    """One panel of PANELS as an SVG for light paper, with a transparent background and text drawn as shapes."""
    with rc_context(_THEME):
        figure = Figure(figsize=(4.6, 3.0))
        figure.patch.set_alpha(0.0)
        axes = figure.add_axes((0.11, 0.155, 0.87, 0.745))
        _draw(axes, name, PANELS[name], runs, regions)
        out = io.BytesIO()
        figure.savefig(out, format="svg", metadata={"Date": None, "Creator": None})
    return out.getvalue()


def for_dark_paper(svg: bytes) -> bytes:
    """The picture with its colours replaced by those for a dark page."""
    for light, dark in zip((INK, *_LIGHT), (PALE_INK, *_DARK), strict=True):
        svg = svg.replace(light.encode(), dark.encode())
    return svg


def probe_panels(runs: Runs) -> dict[str, Panel]:
    """One panel for each task of each data set that was measured during training; ages, in years, have their own."""
    found: dict[str, dict[str, str]] = {}
    for key in dict.fromkeys(key for rows in runs.values() for row in rows for key in row):
        parts = key.split("/")
        if len(parts) == 4 and parts[0] == "probe" and not parts[3].endswith("_ari"):
            _, faces, task, score = parts
            title = f"Probe {faces}: {'age, years' if 'age_mae' in score else task}"
            found.setdefault(title, {})[score.replace("_", " ")] = key
    return {title: Panel(title, lines) for title, lines in found.items()}


def has_data(name: str, runs: Runs) -> bool:
    """Whether any run has a finite value for the panel."""
    keys = PANELS[name].lines.values()
    return any(len(series(rows, key)[0]) for rows in runs.values() for key in keys)


def series(rows: Rows, key: str) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Steps and values of the rows that have a finite number under `key`."""
    both = [(number_in(row, "step"), number_in(row, key)) for row in rows]
    found = [(step, value) for step, value in both if step is not None and value is not None]
    pairs = np.array(found, np.float64).reshape(-1, 2)
    pairs = pairs[np.isfinite(pairs).all(1)]
    return pairs[:, 0], pairs[:, 1]


def moving_mean(values: NDArray[np.float64], width: int) -> NDArray[np.float64]:
    """Centred mean of the values over at most `width` of them, fewer at the ends."""
    sums = np.concatenate([[0.0], np.cumsum(values)])
    place = np.arange(len(values))
    reach = np.minimum(np.minimum(place, place[::-1]), width // 2)
    return (sums[place + reach + 1] - sums[place - reach]) / (2 * reach + 1)


def _draw(axes: Axes, name: str, panel: Panel, runs: Runs, regions: int) -> None:
    several_runs, several_lines = len(runs) > 1, len(panel.lines) > 1
    for r, (run, rows) in enumerate(runs.items()):
        for k, (label, key) in enumerate(panel.lines.items()):
            steps, values = series(rows, key)
            if not len(steps):
                continue
            colour = _LIGHT[(r if several_runs else k) % len(_LIGHT)]
            style = _STYLES[k % len(_STYLES)] if several_runs else "-"
            text = ", ".join([run] * several_runs + [label] * several_lines)
            if len(values) > 150:
                axes.plot(steps, values, color=colour, alpha=0.25, linewidth=0.7)
                values = moving_mean(values, len(values) // 40)
            mark = "o" if len(values) == 1 else None
            axes.plot(steps, values, style, color=colour, label=text, linewidth=1.8, marker=mark, markersize=4)
    axes.set_title(panel.title, loc="left")
    axes.set_xlabel("step")
    if panel.floor is not None:
        axes.set_ylim(bottom=panel.floor)
    if name == "relation":
        _mark_saddle(axes, regions)
    if name == "in_use":
        axes.set_ylim(0, regions * 1.06)
    if (several_runs or several_lines) and axes.get_legend_handles_labels()[0]:
        axes.legend(frameon=False, fontsize=8.5, loc="best")


def _mark_saddle(axes: Axes, regions: int) -> None:
    """ln Q is the value at which all regions look alike; the second line is what a run should get below."""
    saddle = math.log(regions)
    low, high = axes.get_ylim()
    axes.set_ylim(min(low, 0.68 * saddle), max(high, 1.06 * saddle))
    for level, text in ((saddle, f"ln {regions}: no regions yet"), (0.75 * saddle, f"0.75 ln {regions}")):
        axes.axhline(level, color=FAINT, linewidth=0.9, linestyle=(0, (4, 3)), zorder=0)
        axes.annotate(
            text, (1, level), xycoords=("axes fraction", "data"), xytext=(-3, 3), textcoords="offset points",
            ha="right", fontsize=8, color=FAINT,
        )  # fmt: skip
