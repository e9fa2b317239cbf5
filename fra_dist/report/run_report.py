"""The report of one run or of several: one HTML file that opens offline.

Charts are inline SVG. The only script moves through the pictures of the regions; without it the last one is shown.
"""

import math
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from fra_dist import files
from fra_dist.config import Config, dump_config
from fra_dist.errors import DataError
from fra_dist.formats import plural
from fra_dist.report.curves import PANELS, Panel, probe_panels
from fra_dist.report.embedding_map import map_section, maps_below
from fra_dist.report.evaluation_tables import tables_of
from fra_dist.report.page import inline
from fra_dist.report.report_sections import stages_of
from fra_dist.report.run_files import RunFiles, read_evaluations, read_runs
from fra_dist.report.svg_chart import Floor, Line, chart, number
from fra_dist.train.run_dir.folder import compare_configs

_GROUPS = {
    "Losses": ("total", "consistency", "relation"),
    "Signs of collapse": ("spread", "rank", "overlap", "queries", "in_use", "share"),
    "Speed and schedule": ("speed", "wait", "memory", "lr", "momentum"),
}
_STAGES, _EVENTS = 24, 60


@dataclass(frozen=True)
class PlainTable:
    """A table of texts for the report page: the headings of its columns, and its rows."""

    head: Sequence[str]
    """Headings of the columns."""
    rows: Sequence[Sequence[str]]
    """The rows, a text for each column."""


def write_run_report(
    folders: Sequence[Path], path: Path, evaluations: Sequence[Path] = (), embeddings: Sequence[Path] = ()
) -> Path:
    """Write the report of the runs in `folders`, with the results of `fra-dist eval` below `evaluations`.

    embeddings: folders with the maps of `fra-dist embed`. RUN/eval and RUN/embed of each run are looked at as well.
    Returns the path. Raises DataError when a folder is not a run, or the
    file cannot be written.
    """
    runs = read_runs(folders)
    maps = maps_below([*embeddings, *(folder / "embed" for folder in folders if files.is_folder(folder / "embed"))])
    own = [folder / "eval" for folder in folders if files.is_folder(folder / "eval")]
    environment = Environment(
        loader=PackageLoader("fra_dist.report", "."), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    text = environment.get_template("run.html.j2").render(
        title=runs[0].config.name if len(runs) == 1 else f"{len(runs)} runs",
        made=time.strftime("%Y-%m-%d %H:%M"),
        runs=runs,
        overview=_overview(runs),
        differences=_differences(runs),
        groups=[(name, charts) for name, keys in _GROUPS.items() if (charts := list(_charts(runs, keys)))],
        probes=list(_probes(runs)),
        stages=[(run.name, stages) for run in runs if (stages := _stages(run.path))],
        events=[(run.name, _events(run)) for run in runs],
        evaluations=tables_of(read_evaluations([*evaluations, *own])),
        maps=[(one.title, map_section(one)) for one in maps],
        settings=[(run.name, dump_config(run.config)) for run in runs],
        resumed=any(run.resumed_at for run in runs),
    )
    try:
        files.make_folder(path.parent)
        files.write_whole(path, text)
    except OSError as error:
        raise files.failure(error, f"cannot write the report {path}", DataError) from None
    return path


def _overview(runs: Sequence[RunFiles]) -> PlainTable:
    """A row a run: how far it is, where it stands, how fast it was."""
    rows = []
    for run in runs:
        steps, loss, speed = (run.series(key) for key in ("loss/total", "loss/total", "images_per_second"))
        wait = run.series("data_wait")
        launcher = sum(row["event"] == "launch restart" for row in run.events)
        resumes = sum(row["event"] == "resume" for row in run.events)
        rows.append(
            (
                run.name,
                run.state,
                f"{steps[-1][0]:,.0f}" if steps else "0",
                number(loss[-1][1]) if loss else "–",
                f"{_middle(speed):,.0f}" if speed else "–",
                f"{_middle(wait):.0%}" if wait else "–",
                f"{resumes}" + (f" ({launcher} by the launcher)" if launcher else ""),
                str(run.checkpoints),
            )
        )
    head = ("run", "state", "step", "loss", "images/s (median)", "wait for data", "resumed", "checkpoints")
    return PlainTable(head, rows)


def _differences(runs: Sequence[RunFiles]) -> PlainTable:
    """Keys in which the runs differ; of a single run, those in which it differs from the defaults."""
    configs = [run.config for run in runs] if len(runs) > 1 else [Config(), runs[0].config]
    keys = dict.fromkeys(key for other in configs[1:] for key, _ in compare_configs(configs[0], other))
    values = [[_value(config, key) for config in configs] for key in keys if key not in ("name", "output")]
    names = [run.name for run in runs] if len(runs) > 1 else ["default", runs[0].name]
    shown = [key for key in keys if key not in ("name", "output")]
    return PlainTable(("key", *names), [(key, *row) for key, row in zip(shown, values, strict=True)])


def _value(config: Config, key: str) -> str:
    value: Any = config.model_dump(mode="json", by_alias=True)
    for part in key.split("."):
        value = value.get(part) if isinstance(value, dict) else None
    return "null" if value is None else str(value)


def _charts(runs: Sequence[RunFiles], names: Sequence[str]) -> Iterator[Markup]:
    for name in names:
        panel = PANELS[name]
        floors = []
        if name == "relation":
            regions = runs[0].config.model.regions
            floors = [Floor(f"ln {regions}: no regions yet", math.log(regions))]
        if (drawn := _chart(runs, panel, floors)) is not None:
            yield drawn


def _probes(runs: Sequence[RunFiles]) -> Iterator[Markup]:
    """Scores on labelled faces; the value before the first step is that of the untrained network, a floor."""
    for panel in probe_panels({run.name: run.rows for run in runs}).values():
        first = [values[0] for run in runs for key in panel.lines.values() if (values := run.series(key))]
        floors = [Floor("untrained", value) for step, value in first[:1] if step == 0]
        if (drawn := _chart(runs, panel, floors)) is not None:
            yield drawn


def _chart(runs: Sequence[RunFiles], panel: Panel, floors: Sequence[Floor]) -> Markup | None:
    lines: list[Line] = []
    for run in runs:
        for label, key in panel.lines.items():
            if points := run.series(key):
                parts = [run.name] * (len(runs) > 1) + [label] * (len(panel.lines) > 1 or len(runs) == 1)
                lines.append(Line(", ".join(parts), points, len(lines)))
    if not lines:
        return None
    return chart(panel.title, lines, floors, runs[0].resumed_at if len(runs) == 1 else (), panel.floor)


def _stages(run: Path) -> list[tuple[str, Markup]]:
    """(label, picture) of the regions while the run went on, thinned evenly; the photos themselves come first."""
    found = stages_of(run)
    if len(found) > _STAGES:
        found = [found[round(i * (len(found) - 1) / (_STAGES - 1))] for i in range(_STAGES)]
    return [(label, inline(picture)) for label, picture in found]


def _events(run: RunFiles) -> PlainTable:
    rows = [(_when(row), str(row["event"]), str(row.get("step", "")), _said(row)) for row in run.events]
    left_out = len(rows) - _EVENTS
    more = [("", f"and {plural(left_out, 'earlier event')}", "", "")] if left_out > 0 else []
    return PlainTable(("when", "event", "step", "what"), [*more, *rows[-_EVENTS:]])


def _when(row: Mapping[str, Any]) -> str:
    moment = row.get("time")
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(moment)) if isinstance(moment, int | float) else ""


def _said(row: Mapping[str, Any]) -> str:
    known = ("text", "cause", "reason", "checkpoint", "signal", "why", "action")
    return "; ".join(str(row[name]) for name in known if row.get(name))


def _middle(points: Sequence[tuple[float, float]]) -> float:
    values = sorted(value for _, value in points)
    return values[len(values) // 2]
