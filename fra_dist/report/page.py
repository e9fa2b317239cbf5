"""The report of a run: one HTML file that opens offline, on a phone or a wide screen, light or dark.

Every picture is inside the file; nothing is fetched and no script runs.
"""

import base64
import io
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from PIL import Image

from fra_dist.errors import DataError
from fra_dist.files import failure, raw_bytes
from fra_dist.report.curves import PANELS, Runs, for_dark_paper, has_data, panel_svg
from fra_dist.report.palette import CLASS_COLOURS, region_hex

_WEBP_FROM = 60_000  # bytes: larger pictures are re-encoded, which makes the page ten times smaller


class ColumnLike(Protocol):
    """A column of a table, as `eval.score_table.Column` is one."""

    @property
    def title(self) -> str:
        """Heading of the column, as text."""
        ...

    @property
    def digits(self) -> int:
        """Number of digits after the decimal point of the column's values."""
        ...

    @property
    def higher_is_better(self) -> bool | None:
        """True if larger values of the column are better, False if smaller ones are, None if neither are."""
        ...


class TableLike(Protocol):
    """A table of scores, as `eval.score_table.Table` is one; `report` does not import `eval` for it."""

    @property
    def title(self) -> str:
        """Heading of the table, as text."""
        ...

    @property
    def note(self) -> str:
        """A few sentences that say how to read the table."""
        ...

    @property
    def columns(self) -> Sequence[ColumnLike]:
        """The columns of values, in order, without the one of the row labels."""
        ...

    @property
    def rows(self) -> Sequence[tuple[str, Sequence[float | None]]]:
        """(label, a value for each column); None where a column does not apply."""
        ...


@dataclass(frozen=True)
class Picture:
    """A picture for the report page, with its caption and a description for screen readers."""

    image: Path | bytes
    """A file, or the bytes of one: PNG, JPEG or WebP."""
    alt: str
    """What the picture shows, for screen readers."""
    caption: str = ""
    """Text below the picture."""


Film = Sequence[tuple[str, Picture]]
"""Rows of pictures above each other, each with a label; the columns are the same photos."""


@dataclass(frozen=True)
class Headline:
    """A number that matters, which the page shows in large type at its top."""

    label: str
    """What the number is."""
    value: str
    """The number as text."""
    note: str = ""
    """A few words below it."""
    good: bool | None = None
    """Whether the number reached its target; None: there is no target."""


@dataclass(frozen=True)
class ReportData:
    """Everything on the page. A section without content is left out."""

    title: str
    """Heading of the page."""
    summary: str
    """A sentence or two below the heading."""
    regions: int
    """Number of regions Q of the networks."""
    headlines: Sequence[Headline] = ()
    examples: Film = ()
    """Photos, their true masks, and the regions that each network finds in them; see `compare`."""
    classes: Sequence[str] = ()
    """Names of the true parts, in the order of their numbers."""
    stages: Film = ()
    """Photos and their regions at several steps of the run; see `stages_of`."""
    region_table: TableLike | None = None
    """Scores of regions, a row for each network and way."""
    probe_table: TableLike | None = None
    """Scores of frozen features, a row for each network."""
    curves: Runs = field(default_factory=dict)
    """Rows of metrics.jsonl by the name of the run."""
    sheets: Sequence[Picture] = ()
    """Further pictures, such as contact sheets."""
    facts: Sequence[tuple[str, str]] = ()
    """(what, value): photos, steps, device, time, versions."""
    settings: str = ""
    """The configuration, as YAML."""
    commands: Sequence[str] = ()
    """What to type to get the same, a line each."""
    notes: Sequence[str] = ()
    """What a reader should know before believing the numbers."""


def write_page(data: ReportData, path: str | Path) -> Path:
    """Render the report as one HTML file, with all pictures inside, and return its path.

    data: the content; path: of the file, whose folder is made when absent. Raises DataError when a picture cannot be
    read or the file cannot be written.
    """
    environment = Environment(
        loader=PackageLoader("fra_dist.report", "."), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    text = environment.get_template("page.html.j2").render(
        data=data,
        curves=_curves(data.curves, data.regions),
        tables={name: _cells(table) for name in ("region_table", "probe_table") if (table := getattr(data, name))},
        swatches=[(q, region_hex(q)) for q in range(data.regions)],
        parts=[(name, "#" + bytes(colour).hex()) for name, colour in zip(data.classes, CLASS_COLOURS, strict=False)],
        inline=inline,
        saddle=math.log(data.regions),
    )
    target = Path(path)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text, encoding="utf-8")
    except OSError as error:
        raise failure(error, f"cannot write the report {target}", DataError) from None
    return target


def inline(picture: Picture) -> Markup:
    """Return an HTML `img` element that contains the picture, at its own width and height as the largest size.

    A PNG above 60 kB becomes a WebP. Raises DataError when the picture is missing or is none.
    """
    try:
        raw = picture.image if isinstance(picture.image, bytes) else raw_bytes(picture.image)
        with Image.open(io.BytesIO(raw)) as image:
            width, height = image.size
            kind = (image.format or "PNG").lower()
            if len(raw) > _WEBP_FROM and kind == "png":
                out = io.BytesIO()
                image.save(out, "WEBP", quality=88, method=4)
                raw, kind = out.getvalue(), "webp"
    except OSError as error:
        raise DataError(f"picture {picture.image!r:.80} of the report cannot be read: {error}") from None
    return Markup('<img src="{}" alt="{}" width="{}" height="{}">').format(
        data_uri(raw, f"image/{kind}"), picture.alt, width, height
    )


def data_uri(raw: bytes, kind: str) -> str:
    """Return `raw` as a `data:` URI of the MIME type `kind`, in base64."""
    return f"data:{kind};base64,{base64.b64encode(raw).decode()}"


@dataclass(frozen=True)
class _Curve:
    name: str
    title: str
    light: str
    dark: str


def _curves(runs: Runs, regions: int) -> list[_Curve]:
    """A light and a dark picture of each panel that has data."""
    found = []
    for name, panel in PANELS.items():
        if has_data(name, runs):
            light = panel_svg(name, runs, regions)
            pictures = [data_uri(svg, "image/svg+xml") for svg in (light, for_dark_paper(light))]
            found.append(_Curve(name, panel.title, *pictures))
    return found


@dataclass(frozen=True)
class _Cell:
    text: str
    best: bool = False
    bar: int = 0
    """Percent of the largest of the column, for columns in which more is better."""


def _cells(table: TableLike) -> list[tuple[str, list[_Cell]]]:
    columns = []
    for k, column in enumerate(table.columns):
        values = [values[k] for _, values in table.rows]
        known = [v for v in values if v is not None and not math.isnan(v)]
        up = column.higher_is_better
        top = None if up is None or len(known) < 2 else (max if up else min)(known)
        largest = max(known, default=0.0)
        columns.append([_cell(v, column.digits, top, largest if up else 0.0) for v in values])
    return [(label, [column[r] for column in columns]) for r, (label, _) in enumerate(table.rows)]


def _cell(value: float | None, digits: int, top: float | None, largest: float) -> _Cell:
    if value is None or math.isnan(value):
        return _Cell("–")
    bar = round(100 * max(value, 0.0) / largest) if largest > 0 else 0
    return _Cell(f"{value:.{digits}f}", value == top, bar)
