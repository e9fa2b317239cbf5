"""Plots of scores, never of photos. Each function returns a function that draws the plot into a file."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Draw = Callable[[Path], None]


def draw_confusion(table: NDArray[Any], names: Sequence[str]) -> Draw:
    """A confusion matrix of counts (K, K), true class by row; shares of each row are printed."""

    def draw(axes: Any) -> None:
        shares = table / np.maximum(table.sum(1, keepdims=True), 1)
        axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
        for row in range(len(names)):
            for column in range(len(names)):
                share = shares[row, column]
                axes.text(
                    column, row, f"{share:.2f}", ha="center", va="center", color="w" if share > 0.5 else "k", fontsize=7
                )
        axes.set_xticks(range(len(names)), names, rotation=45, ha="right")
        axes.set_yticks(range(len(names)), names)
        axes.set(xlabel="answered", ylabel="true")

    return _figure(draw)


def error_curves(errors: Mapping[str, NDArray[np.float64]], limit: float, label: str) -> Draw:
    """Cumulative error distributions by name: the share of faces whose error is at most x, up to `limit`."""

    def draw(axes: Any) -> None:
        for name, values in errors.items():
            axes.step(np.sort(values), np.arange(1, len(values) + 1) / len(values), where="post", label=name)
        axes.set(xlim=(0, limit), ylim=(0, 1), xlabel=label, ylabel="share of faces")
        axes.grid(alpha=0.3)
        axes.legend()

    return _figure(draw)


def roc(curves: Mapping[str, tuple[NDArray[np.float64], NDArray[np.float64]]]) -> Draw:
    """ROC curves by name: true accept rate over false accept rate."""

    def draw(axes: Any) -> None:
        for name, (false, true) in curves.items():
            axes.plot(false, true, label=name, drawstyle="steps-post")
        axes.set(xscale="log", xlim=(1e-4, 1), ylim=(0, 1), xlabel="false accept rate", ylabel="true accept rate")
        axes.grid(alpha=0.3)
        axes.legend()

    return _figure(draw)


def bars(values: Mapping[str, float], label: str) -> Draw:
    """One horizontal bar per name, the largest on top."""

    def draw(axes: Any) -> None:
        names = sorted(values, key=lambda name: values[name])
        axes.barh(names, [values[name] for name in names])
        axes.set(xlabel=label)
        axes.grid(alpha=0.3, axis="x")

    return _figure(draw, height=1.5 + 0.2 * len(values))


def _figure(draw: Callable[[Any], None], height: float = 4.5) -> Draw:
    def save(path: Path) -> None:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure

        figure = Figure(figsize=(6, height), layout="constrained")
        FigureCanvasAgg(figure)
        draw(figure.subplots())
        figure.savefig(path, dpi=120)

    return save
