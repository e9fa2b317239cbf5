"""The map and the sheet of neighbours of embeddings."""

import csv
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from fra_dist.errors import DataError
from fra_dist.eval.embed.neighbourhood import Blocks, nearest_rows, principal_plane, scattered, take
from fra_dist.eval.embed.photo_stream import decoded
from fra_dist.eval.embed.result_files import open_whole
from fra_dist.files import failure
from fra_dist.report.embedding_sheets import Neighbours, Point, draw_map, draw_neighbours

if TYPE_CHECKING:
    from fra_dist.eval.embed.photo_stream import PhotoList
    from fra_dist.eval.embed.pieces import EmbeddedPhoto, Parts

PHOTOS = 400
"""Photos that a map chooses from: it shows those that do not cover one another."""
SCATTERED = 2000
"""Rows that t-SNE makes a map of, at most."""
QUERIES = 8
TILE = 112
NAMES = {"map": "map.png", "places": "map.csv", "neighbours": "neighbours.png"}


def draw_pictures(parts: "Parts", source: "PhotoList", out: Path, way: str, neighbours: int) -> list[str]:
    """Draw the map and the sheet of neighbours, as asked for, of the pooled features.

    Returns the names of the files, none without such features. Raises DataError when the folder cannot be written.
    """
    name = "pooled" if "pooled" in parts.names() else ""
    count = parts.shape(name)[0] if name else 0
    if count < 3:  # neither has anything to show
        return []
    blocks = partial(parts.blocks, name)
    made = []
    try:
        if way != "none":
            rows = np.arange(count) if way == "pca" else evenly_spaced(count, SCATTERED)
            if way == "pca":
                places, shares = principal_plane(blocks)
                notes = f"Their two directions of largest variance: {shares[0]:.0%} and {shares[1]:.0%} of it."
            else:
                places, notes = scattered(take(blocks, rows)), f"t-SNE of {len(rows)} of them, spread evenly."
            _write_places(out / NAMES["places"], rows, places)
            shown = evenly_spaced(len(rows), PHOTOS)
            photos = _photos(parts, source, rows[shown])
            points = [Point(photos[int(rows[n])], *map(float, places[n])) for n in shown if int(rows[n]) in photos]
            title = f"Pooled features of {count} photos"
            draw_map(points, places, title, notes).save(out / NAMES["map"])
            made += [NAMES["map"], NAMES["places"]]
        if neighbours:
            _draw_neighbours(parts, source, blocks, neighbours, out / NAMES["neighbours"])
            made.append(NAMES["neighbours"])
    except OSError as error:
        raise failure(error, f"cannot write to {out}", DataError) from None
    return made


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
    wanted = set(rows.tolist())
    places: dict[int, EmbeddedPhoto] = {n: row for n, row in enumerate(parts.rows()) if n in wanted}
    found = {}
    for n, row in places.items():
        photo = decoded(row.place, source.read([row.place])[0], TILE).square
        if photo is not None:
            found[n] = photo
    return found


def _write_places(path: Path, rows: NDArray[np.int64], places: NDArray[np.floating]) -> None:
    with open_whole(path, "w") as stream:
        table = csv.writer(stream)
        table.writerow(("row", "x", "y"))
        table.writerows((n, f"{x:.6g}", f"{y:.6g}") for n, (x, y) in zip(rows.tolist(), places.tolist(), strict=True))
