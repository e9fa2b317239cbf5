"""The map and the sheet of neighbours of embeddings."""

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from fra_dist.errors import DataError
from fra_dist.eval.embed.colourings import Colourings, clusters, labels_of_photos, labels_of_table
from fra_dist.eval.embed.neighbourhood import Blocks, nearest_rows, principal_plane, scattered, take
from fra_dist.eval.embed.photo_stream import decoded
from fra_dist.eval.embed.result_files import open_whole
from fra_dist.files import failure
from fra_dist.report.embedding_map import EmbeddingMap, save_map, tiled
from fra_dist.report.embedding_sheets import Neighbours, Point, draw_map, draw_neighbours

if TYPE_CHECKING:
    from fra_dist.eval.embed.photo_stream import PhotoList
    from fra_dist.eval.embed.pieces import EmbeddedPhoto, Parts

PHOTOS = 400
"""Photos that a map chooses from: it shows those that do not cover one another."""
SCATTERED = 2000
"""Rows that t-SNE makes a map of, at most."""
POINTS = 4000
"""Points that map.html shows, at most."""
QUERIES = 8
TILE = 112
NAMES = {"map": "map.png", "places": "map.csv", "neighbours": "neighbours.png"}


@dataclass(frozen=True)
class Wanted:
    """Which pictures are drawn, and how."""

    way: str
    """How the map is made: pca, tsne, or none for no map."""
    neighbours: int
    """Photos beside each query on the sheet of neighbours; 0: no sheet."""
    clusters: int
    """Most clusters that points are coloured by; 0: none."""
    table: Mapping[str, Mapping[str, str]] | None
    """Labels by the key of a photo, to colour the points by, as `read_label_table` gives them."""
    table_name: str
    """Name of the table for an error."""


def draw_pictures(parts: "Parts", source: "PhotoList", out: Path, wanted: Wanted) -> list[str]:
    """Draw the map and the sheet of neighbours, as asked for, of the pooled features.

    Returns the names of the files, none without such features. Raises DataError when the folder cannot be written, or
    the table of labels has none of the photos.
    """
    name = "pooled" if "pooled" in parts.names() else ""
    if not name or parts.shape(name)[0] < 3:  # neither has anything to show
        return []
    blocks = partial(parts.blocks, name)
    made = []
    try:
        if wanted.way != "none":
            made += _draw_map(parts, source, blocks, out, wanted)
        if wanted.neighbours:
            _draw_neighbours(parts, source, blocks, wanted.neighbours, out / NAMES["neighbours"])
            made.append(NAMES["neighbours"])
    except OSError as error:
        raise failure(error, f"cannot write to {out}", DataError) from None
    return made


def _draw_map(parts: "Parts", source: "PhotoList", blocks: Blocks, out: Path, wanted: Wanted) -> list[str]:
    """Write the map as a picture, as a table of places and as a page. Returns the names of the files."""
    count = sum(len(block) for block in blocks())
    rows = np.arange(count) if wanted.way == "pca" else evenly_spaced(count, SCATTERED)
    if wanted.way == "pca":
        places, shares = principal_plane(blocks)
        notes = f"Placed along their two directions of largest variance ({shares[0]:.0%} and {shares[1]:.0%} of it)."
    else:
        places = scattered(take(blocks, rows))
        notes = "Placed by t-SNE." if len(rows) == count else f"{len(rows)} of them, spread evenly, placed by t-SNE."
    _write_places(out / NAMES["places"], rows, places)
    pictured = evenly_spaced(len(rows), PHOTOS)
    photos = _photos(parts, source, rows[pictured])
    points = [Point(photos[int(rows[n])], *map(float, places[n])) for n in pictured if int(rows[n]) in photos]
    title = f"Pooled features of {count} photos"
    draw_map(points, places, title, notes).save(out / NAMES["map"])

    kept = np.union1d(evenly_spaced(len(rows), POINTS), pictured)
    chosen = _rows_at(parts, rows[kept])
    tiles = {row: n for n, row in enumerate(photos)}
    page = EmbeddingMap(
        title=title,
        notes=notes,
        keys=[row.key for row in chosen],
        places=places[kept],
        colourings=_colourings(source, chosen, take(blocks, rows[kept]), wanted),
        tiles=[tiles.get(row, -1) for row in rows[kept].tolist()],
        photos=tiled(list(photos.values())),
    )
    return [NAMES["map"], NAMES["places"], *save_map(page, out)]


def _colourings(
    source: "PhotoList", chosen: "Sequence[EmbeddedPhoto]", features: NDArray[np.floating], wanted: Wanted
) -> Colourings:
    """What the points of the map can be coloured by: the table first, then labels of the photos, then clusters."""
    table, keys = wanted.table, [row.key for row in chosen]
    found = labels_of_table(table, keys, wanted.table_name) if table is not None else {}
    for name, labels in labels_of_photos(source.labels([row.place for row in chosen])).items():
        found.setdefault(name, labels)
    if wanted.clusters and (groups := clusters(features, wanted.clusters)):
        found.setdefault("cluster", groups)
    return found


def _rows_at(parts: "Parts", rows: NDArray[np.int64]) -> "list[EmbeddedPhoto]":
    """The photos of some rows, which ascend."""
    wanted = set(rows.tolist())
    return [row for n, row in enumerate(parts.rows()) if n in wanted]


def _draw_neighbours(parts: "Parts", source: "PhotoList", blocks: Blocks, neighbours: int, path: Path) -> None:
    count = sum(len(block) for block in blocks())
    queries = evenly_spaced(count, QUERIES)
    near, cosines = nearest_rows(blocks, queries, neighbours)
    photos = _photos(parts, source, np.unique(np.concatenate([queries, near.ravel()])))
    rows = []
    for query, others, values in zip(queries.tolist(), near.tolist(), cosines.tolist(), strict=True):
        kept = [(photos[n], value) for n, value in zip(others, values, strict=True) if n in photos]
        if query in photos:
            rows.append(Neighbours(photos[query], [photo for photo, _ in kept], [value for _, value in kept]))
    title = f"Nearest of {count} photos, by the cosine of their pooled features about the mean"
    draw_neighbours(rows, title, TILE).save(path)


def evenly_spaced(count: int, most: int) -> NDArray[np.int64]:
    """At most `most` of the numbers below `count`, evenly spaced."""
    return np.unique(np.linspace(0, count - 1, min(most, count)).astype(np.int64))


def _photos(parts: "Parts", source: "PhotoList", rows: NDArray[np.int64]) -> dict[int, NDArray[np.uint8]]:
    """Photos by row; one that has gone since is left out."""
    ascending = np.unique(rows)
    found = {}
    for n, row in zip(ascending.tolist(), _rows_at(parts, ascending), strict=True):
        photo = decoded(row.place, source.read([row.place])[0], TILE).square
        if photo is not None:
            found[n] = photo
    return found


def _write_places(path: Path, rows: NDArray[np.int64], places: NDArray[np.floating]) -> None:
    with open_whole(path, "w") as stream:
        table = csv.writer(stream)
        table.writerow(("row", "x", "y"))
        table.writerows((n, f"{x:.6g}", f"{y:.6g}") for n, (x, y) in zip(rows.tolist(), places.tolist(), strict=True))
