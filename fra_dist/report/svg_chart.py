"""Line charts as inline SVG, whose colours follow the page (light or dark) through its style sheet."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup, escape
from matplotlib.ticker import MaxNLocator

WIDTH, HEIGHT = 460, 290
_LEFT, _RIGHT, _TOP, _BOTTOM = 52, 10, 26, 30
_MOST = 600
"""Points of a line at most; more cannot be told apart at this width."""


@dataclass(frozen=True)
class Line:
    """One curve: `points` are (step, value), ascending in step; `series` chooses the colour, from 0."""

    label: str
    points: Sequence[tuple[float, float]]
    series: int = 0


@dataclass(frozen=True)
class Floor:
    """A level to be beaten, such as the score of an untrained network."""

    label: str
    value: float


def chart(
    title: str,
    lines: Sequence[Line],
    floors: Sequence[Floor] = (),
    marks: Sequence[float] = (),
    low: float | None = None,
) -> Markup:
    """Draw the lines, dashed floors, and a vertical mark at each step of `marks`, at which the run was resumed.

    low: where the vertical axis begins at the latest; None: where the values do.
    """
    lines = [Line(one.label, thinned(one.points), one.series) for one in lines if one.points]
    steps = [step for one in lines for step, _ in one.points]
    values = [value for one in lines for _, value in one.points] + [one.value for one in floors]
    x = _Axis(min(steps), max(steps), _LEFT, WIDTH - _RIGHT)
    y = _Axis(min([*values, *([] if low is None else [low])]), max(values), HEIGHT - _BOTTOM, _TOP, padded=True)
    said = f"{title}: " + "; ".join(f"{one.label} ends at {number(one.points[-1][1])}" for one in lines)
    parts = [
        Markup('<svg class="chart" viewBox="0 0 {} {}" role="img" aria-label="{}">').format(WIDTH, HEIGHT, said),
        Markup('<text x="{}" y="15" class="title">{}</text>').format(_LEFT - 44, title),
        *_grid(x, y),
    ]
    for step in marks:
        if x.low < step < x.high:
            at = x.at(step)
            parts.append(
                Markup(
                    '<line class="resume" x1="{0}" x2="{0}" y1="{1}" y2="{2}">'
                    "<title>resumed at step {3:.0f}</title></line>"
                ).format(f"{at:.1f}", _TOP, HEIGHT - _BOTTOM, step)
            )
    for floor in floors:
        at = y.at(floor.value)
        parts.append(
            Markup(
                '<line class="floor" x1="{0}" x2="{1}" y1="{3}" y2="{3}"/>'
                '<text class="tick" x="{1}" y="{4}" text-anchor="end">{2}</text>'
            ).format(_LEFT, WIDTH - _RIGHT, floor.label, f"{at:.1f}", f"{at - 3:.1f}")
        )
    parts += [_path(one, x, y) for one in lines]
    parts.append(Markup("</svg>"))
    return Markup("").join(parts) + _legend(lines)


def thinned(points: Sequence[tuple[float, float]], most: int = _MOST) -> list[tuple[float, float]]:
    """At most so many points, evenly chosen; the first and the last stay."""
    if len(points) <= most:
        return list(points)
    return [points[round(i * (len(points) - 1) / (most - 1))] for i in range(most)]


def number(value: float) -> str:
    """A number of an axis: at most four digits, without an exponent where it can be read so."""
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"


class _Axis:
    """Maps values from `low` to `high` onto pixels."""

    def __init__(self, low: float, high: float, begin: float, end: float, padded: bool = False) -> None:
        span = high - low or abs(high) or 1.0
        self.low, self.high = (low - 0.04 * span * padded, high + 0.06 * span * padded) if padded else (low, low + span)
        self.begin, self.end = begin, end

    def at(self, value: float) -> float:
        return self.begin + (value - self.low) / (self.high - self.low) * (self.end - self.begin)

    def ticks(self, count: int) -> list[float]:
        found = MaxNLocator(count).tick_values(self.low, self.high)
        return [float(tick) for tick in found if self.low <= tick <= self.high]


def _grid(x: _Axis, y: _Axis) -> list[Markup]:
    found = []
    for tick in y.ticks(5):
        at = f"{y.at(tick):.1f}"
        found.append(
            Markup(
                '<line class="grid" x1="{0}" x2="{1}" y1="{2}" y2="{2}"/>'
                '<text class="tick" x="{3}" y="{2}" dy=".32em" text-anchor="end">{4}</text>'
            ).format(_LEFT, WIDTH - _RIGHT, at, _LEFT - 6, number(tick))
        )
    for tick in x.ticks(6):
        found.append(
            Markup('<text class="tick" x="{}" y="{}" text-anchor="middle">{}</text>').format(
                f"{x.at(tick):.1f}", HEIGHT - _BOTTOM + 16, number(tick)
            )
        )
    return found


def _path(one: Line, x: _Axis, y: _Axis) -> Markup:
    style = f"s{one.series % 6}"
    if len(one.points) == 1:
        step, value = one.points[0]
        return Markup('<circle class="{}" cx="{:.1f}" cy="{:.1f}" r="3"/>').format(style, x.at(step), y.at(value))
    text = " ".join(f"{x.at(step):.1f},{y.at(value):.1f}" for step, value in one.points if math.isfinite(value))
    return Markup('<polyline class="{}" points="{}"/>').format(style, text)


def _legend(lines: Sequence[Line]) -> Markup:
    if len(lines) < 2:
        return Markup("")
    items = Markup("").join(
        Markup('<li><i class="s{}"></i>{}</li>').format(one.series % 6, escape(one.label)) for one in lines
    )
    return Markup('<ul class="swatches">{}</ul>').format(items)
