"""Sheets: photos in rows, their regions and soft maps in columns, with a legend that explains the colours."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from fra_dist.report.overlay import Pixels, assignment_overlay, class_tile, resize, soft_overlay, stretch, upsample
from fra_dist.report.palette import CLASS_COLOURS, REGION_COLOURS

PAPER, INK, FAINT = (22, 24, 29), (232, 234, 238), (150, 156, 168)
GAP, MARGIN, LINE = 6, 14, 20


@dataclass(frozen=True)
class Drawn:
    """N photos with the regions that a network finds in them."""

    photos: Pixels
    """(N, h, w, 3) uint8 photos."""
    similarity: Tensor
    """(N, Q, H, W) similarities, whose largest gives the hard assignment."""
    heatmap: Tensor
    """(N, Q, H, W) soft maps."""
    names: Sequence[str] = ()
    """A name for each photo; empty: none is written."""
    truth: NDArray[np.uint8] | None = None
    """Masks (N, h, w) of class numbers, 255 unknown; None where they are not known."""


def draw_sheet(
    drawn: Drawn, title: str = "", tile: int = 160, classes: Sequence[str] = (), lines: int | None = None
) -> Image.Image:
    """A sheet with one row per photo: the photo, its true mask if known, the hard assignment, and Q soft maps.

    The soft maps of a photo stand in one line, or in two at half the size when there are more than 8; `lines` overrides
    that. tile: side of a picture in pixels. `classes` names the colours of the true masks.
    """
    photos = np.stack([resize(photo, tile) for photo in drawn.photos])
    regions = upsample(drawn.similarity, tile).argmax(1).numpy()
    soft = upsample(stretch(drawn.heatmap), tile).numpy()
    lead = [("photo", photos)]
    if drawn.truth is not None:
        lead.append(("truth", np.stack([class_tile(mask, tile) for mask in drawn.truth])))
    lead.append(("regions", np.stack([assignment_overlay(p, r) for p, r in zip(photos, regions, strict=True)])))

    maps = soft.shape[1]
    lines = lines or (1 if maps <= 8 else 2)
    layout = _Layout(len(photos), maps, len(lead), tile, lines, bool(drawn.names), bool(title), bool(classes))
    caption = _caption(drawn.heatmap, soft.shape[1])
    notes = _wrap(caption, layout.width - 2 * MARGIN)
    canvas = Image.new("RGB", (layout.width, layout.height + LINE * len(notes)), PAPER)
    pen = ImageDraw.Draw(canvas)
    if title:
        pen.text((MARGIN, MARGIN), title, INK, font(17))
    _header(pen, layout, [name for name, _ in lead])
    for row in range(len(photos)):
        top = layout.top(row)
        if drawn.names:
            pen.text((MARGIN, top - LINE + 2), _shorten(drawn.names[row], layout.width - 2 * MARGIN), FAINT, font(12))
        for column, (_, tiles) in enumerate(lead):
            canvas.paste(Image.fromarray(tiles[row]), (layout.lead_left(column), top))
        for q in range(soft.shape[1]):
            left, down = layout.soft_place(q)
            picture = Image.fromarray(soft_overlay(photos[row], soft[row, q], q))
            canvas.paste(picture.resize((layout.small, layout.small), Image.Resampling.LANCZOS), (left, top + down))
    if classes:
        _legend(pen, classes, layout.height - LINE)
    for number, text in enumerate(notes):
        pen.text((MARGIN, layout.height + LINE * number - 4), text, FAINT, font(12))
    return canvas


@dataclass(frozen=True)
class _Layout:
    rows: int
    maps: int
    leads: int
    tile: int
    lines: int
    named: bool
    titled: bool
    legend: bool

    @property
    def columns(self) -> int:
        return -(-self.maps // self.lines)

    @property
    def small(self) -> int:
        return (self.tile - GAP * (self.lines - 1)) // self.lines

    @property
    def head(self) -> int:
        return MARGIN + (30 if self.titled else 0)

    @property
    def pitch(self) -> int:
        return self.tile + GAP + (LINE if self.named else 0)

    @property
    def width(self) -> int:
        return self.lead_left(self.leads) + GAP + self.columns * (self.small + GAP) - GAP + MARGIN

    @property
    def height(self) -> int:
        return self.top(self.rows) - (LINE if self.named else 0) + (LINE + 6 if self.legend else 0) + MARGIN

    def top(self, row: int) -> int:
        return self.head + LINE * self.lines + 2 + (LINE if self.named else 0) + row * self.pitch

    def lead_left(self, column: int) -> int:
        return MARGIN + column * (self.tile + GAP)

    def soft_place(self, q: int) -> tuple[int, int]:
        line, column = divmod(q, self.columns)
        return self.lead_left(self.leads) + GAP + column * (self.small + GAP), line * (self.small + GAP)


def _header(pen: ImageDraw.ImageDraw, layout: _Layout, leads: Sequence[str]) -> None:
    base = layout.head + LINE * (layout.lines - 1)
    for column, name in enumerate(leads):
        pen.text((layout.lead_left(column), base), name, FAINT, font(13))
    for q in range(layout.maps):
        left, _ = layout.soft_place(q)
        y = layout.head + LINE * (q // layout.columns)
        pen.rectangle((left, y + 2, left + 11, y + 13), tuple(int(v) for v in REGION_COLOURS[q]))
        pen.text((left + 17, y), str(q), FAINT, font(13))


def _legend(pen: ImageDraw.ImageDraw, classes: Sequence[str], y: int) -> None:
    left: float = MARGIN
    for name, colour in zip(classes, CLASS_COLOURS, strict=False):
        pen.rectangle((left, y - 4, left + 11, y + 7), tuple(int(v) for v in colour), outline=FAINT)
        pen.text((left + 17, y - 6), name, FAINT, font(12))
        left += 17 + pen.textlength(name, font(12)) + 16


def _caption(heatmap: Tensor, maps: int) -> str:
    low, high = float(heatmap.min()), float(heatmap.max())
    return (
        f"Soft maps: each region's map is stretched between its own smallest and largest value in this picture. "
        f"Values before that: {low:.4f} to {high:.4f}; all regions equal would be {1 / maps:.4f}."
    )


def _wrap(text: str, width: int) -> list[str]:
    lines = [""]
    for word in text.split():
        longer = f"{lines[-1]} {word}".strip()
        if font(12).getlength(longer) > width and lines[-1]:
            lines.append(word)
        else:
            lines[-1] = longer
    return lines


def _shorten(text: str, width: int) -> str:
    while len(text) > 8 and font(12).getlength(text) > width:
        text = "..." + text[8:]
    return text


@cache
def font(size: int) -> ImageFont.FreeTypeFont:
    """DejaVu Sans at `size` pixels, which Matplotlib ships and which has Latin, Greek, Cyrillic and more."""
    found = find_spec("matplotlib")  # not imported: that takes a moment, and a run draws before its first step
    assert found is not None
    assert found.origin is not None
    return ImageFont.truetype(Path(found.origin).parent / "mpl-data/fonts/ttf/DejaVuSans.ttf", size)
