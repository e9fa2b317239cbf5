"""Pictures of embeddings: photos at their places on a map, and photos beside their nearest neighbours."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from fra_dist.report.overlay import Pixels, resize
from fra_dist.report.palette import REGION_COLOURS
from fra_dist.report.region_sheet import FAINT, GAP, INK, LINE, MARGIN, PAPER, font

WIDTH, HEIGHT = 1480, 1000
DOTS = 20_000
"""Most dots that a map shows."""


class Point(NamedTuple):
    """A photo and its two coordinates on a map of embeddings."""

    photo: Pixels
    """(s, s, 3) pixels of the photo."""
    x: float
    """Place along the horizontal axis."""
    y: float
    """Place along the vertical axis."""


def draw_map(
    points: Sequence[Point], places: NDArray[np.floating], title: str, notes: str, tile: int = 56
) -> Image.Image:
    """A picture of the map: all `places` (N, 2) as dots, and photos where they lie, as far as they do not cover one
    another.

    The frame holds the middle 98 % of the places on each axis; what lies outside is drawn at the edge. tile: side of a
    photo in pixels.
    """
    canvas = Image.new("RGB", (WIDTH, HEIGHT), PAPER)
    pen = ImageDraw.Draw(canvas)
    frame = (
        MARGIN + tile // 2,
        MARGIN + 40 + tile // 2,
        WIDTH - MARGIN - tile // 2,
        HEIGHT - MARGIN - LINE - tile // 2,
    )
    low, high = np.percentile(places, [1, 99], axis=0)
    spread = np.maximum(high - low, 1e-12)

    def spot(x: float, y: float) -> tuple[float, float]:
        across, up = np.clip((np.array([x, y]) - low) / spread, 0, 1)
        return frame[0] + across * (frame[2] - frame[0]), frame[3] - up * (frame[3] - frame[1])

    shown = places[np.unique(np.linspace(0, len(places) - 1, min(DOTS, len(places))).astype(np.int64))]
    for x, y in shown.tolist():
        left, top = spot(x, y)
        pen.ellipse((left - 1.5, top - 1.5, left + 1.5, top + 1.5), fill=FAINT)
    taken: list[tuple[float, float]] = []
    for point in points:
        left, top = spot(point.x, point.y)
        if all(abs(left - a) >= tile + 2 or abs(top - b) >= tile + 2 for a, b in taken):
            taken.append((left, top))
            canvas.paste(Image.fromarray(resize(point.photo, tile)), (round(left - tile / 2), round(top - tile / 2)))
    pen.text((MARGIN, MARGIN), title, INK, font(17))
    pen.text((MARGIN, HEIGHT - MARGIN - LINE + 4), f"{notes} {len(taken)} photos are shown.", FAINT, font(13))
    return canvas


class Neighbours(NamedTuple):
    """A photo and the photos whose embeddings are nearest to its own."""

    photo: Pixels
    """(s, s, 3) pixels of the photo."""
    near: Sequence[Pixels]
    """Its nearest neighbours, the nearest first."""
    cosines: Sequence[float]
    """Cosine of each neighbour with the photo."""


def draw_neighbours(rows: Sequence[Neighbours], title: str, tile: int = 112) -> Image.Image:
    """A sheet with one row per photo: the photo, framed, and its neighbours to the right with their cosines below.

    The nearest comes first. tile: side of a photo in pixels.
    """
    columns = 1 + max(len(row.near) for row in rows)
    pitch, head = tile + LINE + GAP, MARGIN + 40
    width = max(2 * MARGIN + columns * (tile + GAP) + GAP, int(font(17).getlength(title)) + 2 * MARGIN)
    canvas = Image.new("RGB", (width, head + len(rows) * pitch + MARGIN), PAPER)
    pen = ImageDraw.Draw(canvas)
    pen.text((MARGIN, MARGIN), title, INK, font(17))
    frame = tuple(int(v) for v in REGION_COLOURS[0])
    for number, row in enumerate(rows):
        top = head + number * pitch
        pen.rectangle((MARGIN - 3, top - 3, MARGIN + tile + 2, top + tile + 2), outline=frame, width=3)
        canvas.paste(Image.fromarray(resize(row.photo, tile)), (MARGIN, top))
        for place, (photo, cosine) in enumerate(zip(row.near, row.cosines, strict=True)):
            left = MARGIN + (place + 1) * (tile + GAP) + GAP
            canvas.paste(Image.fromarray(resize(photo, tile)), (left, top))
            pen.text((left + 2, top + tile + 2), f"{cosine:.3f}", FAINT, font(12))
    return canvas
