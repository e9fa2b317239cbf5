"""A map of embeddings in a report: points that can be coloured by each of several labels, and the photo of a point.

`fra-dist embed` leaves map.json and map.photos.jpg in its folder; its own page map.html and the report of a run show
them. Colours are told apart by readers of every colour vision, and neighbouring classes differ in shape as well.
"""

import io
import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from numpy.typing import NDArray
from PIL import Image

from fra_dist import files
from fra_dist.errors import DataError
from fra_dist.report.overlay import Pixels, resize
from fra_dist.report.page import data_uri
from fra_dist.report.run_files import MAP, no_map

PHOTOS, PAGE = "map.photos.jpg", "map.html"
WIDTH, HEIGHT = 1000, 640
TILE, ACROSS = 72, 20
"""Side in pixels of a photo in map.photos.jpg, and how many stand in a row."""
CLASSES = 8
"""Labels that have a colour; further ones share grey."""
STEPS = 5
"""Classes that many different numbers are shared out to."""
_MARGIN = 14
_SHAPES = ("dot", "square", "triangle", "diamond")


@dataclass(frozen=True)
class EmbeddingMap:
    """N points of a map, their labels, and photos of some of them."""

    title: str
    """What is shown, and of how many photos."""
    notes: str
    """How the places were found."""
    keys: Sequence[str]
    """The key of each photo."""
    places: NDArray[np.floating]
    """(N, 2) the points."""
    colourings: Mapping[str, Sequence[str]]
    """Name of a colouring -> the label of each point; an empty one is not known. The first one is shown first."""
    tiles: Sequence[int]
    """Place of each point's photo in `photos`, -1 without one."""
    photos: bytes
    """JPEG of small photos, `ACROSS` in a row; empty without photos."""


@dataclass(frozen=True)
class Label:
    """An entry of a legend."""

    text: str
    """The label, or a range of numbers."""
    count: int
    """Points that have it."""
    style: str
    """Class of its style: k0, k1, ... for labels, n0, n1, ... for ranges of numbers, other, unknown."""
    shape: str
    """Name of its symbol."""


def tiled(photos: Sequence[Pixels]) -> bytes:
    """The photos, each (s, s, 3), as one JPEG for `EmbeddingMap.photos`, in their order."""
    if not photos:
        return b""
    sheet = Image.new("RGB", (min(len(photos), ACROSS) * TILE, -(-len(photos) // ACROSS) * TILE))
    for n, photo in enumerate(photos):
        sheet.paste(Image.fromarray(resize(photo, TILE)), (n % ACROSS * TILE, n // ACROSS * TILE))
    out = io.BytesIO()
    sheet.save(out, "JPEG", quality=82)
    return out.getvalue()


def classes(labels: Sequence[str]) -> tuple[list[Label], list[int]]:
    """The legend of a colouring, and for each point the number of its entry.

    More than `CLASSES` different numbers are shared out to ranges of about equally many points. Of more than `CLASSES`
    other labels the most frequent have colours.
    """
    counts = Counter(label for label in labels if label)
    numbers = {label: value for label in counts if (value := _number(label)) is not None}
    if len(counts) > CLASSES and len(numbers) == len(counts):
        chosen, legend = _ranges(numbers, counts)
    else:
        chosen, legend = _names(counts)
    unknown = sum(not label for label in labels)
    if unknown:
        chosen[""] = len(legend)
        legend.append(Label("not known", unknown, "unknown", "dot"))
    return legend, [chosen[label] for label in labels]


def _names(counts: Counter[str]) -> tuple[dict[str, int], list[Label]]:
    shown = sorted((label for label, _ in counts.most_common(CLASSES)), key=_natural)
    legend = [Label(label, counts[label], f"k{k}", _SHAPES[k % len(_SHAPES)]) for k, label in enumerate(shown)]
    chosen = {label: k for k, label in enumerate(shown)}
    rest = [label for label in counts if label not in chosen]
    if rest:
        chosen |= dict.fromkeys(rest, len(legend))
        legend.append(Label(f"{len(rest)} others", sum(counts[label] for label in rest), "other", "dot"))
    return chosen, legend


def _ranges(numbers: Mapping[str, float], counts: Counter[str]) -> tuple[dict[str, int], list[Label]]:
    values = np.array(sorted(value for label, value in numbers.items() for _ in range(counts[label])))
    edges = np.unique(np.quantile(values, np.linspace(0, 1, STEPS + 1)))
    last = max(len(edges) - 2, 0)
    chosen = {
        label: int(np.clip(np.searchsorted(edges, value, "right") - 1, 0, last)) for label, value in numbers.items()
    }
    sizes = Counter(k for label, k in chosen.items() for _ in range(counts[label]))
    texts = [f"{edges[k]:.4g} to {edges[min(k + 1, len(edges) - 1)]:.4g}" for k in range(last + 1)]
    return chosen, [Label(text, sizes[k], f"n{k}", "dot") for k, text in enumerate(texts)]


def _number(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def _natural(text: str) -> tuple[int, float, str]:
    """Numbers by their value, before words by the alphabet."""
    value = _number(text)
    return (1, 0.0, text) if value is None else (0, value, text)


def save_map(found: EmbeddingMap, folder: Path) -> list[str]:
    """Write map.json, map.photos.jpg and map.html into `folder`, and return their names. OSError is the caller's."""
    facts = {
        "title": found.title,
        "notes": found.notes,
        "keys": list(found.keys),
        "places": [[round(float(x), 6), round(float(y), 6)] for x, y in found.places],
        "colourings": {name: list(labels) for name, labels in found.colourings.items()},
        "tiles": list(found.tiles),
    }
    files.write_object(folder / MAP, facts)
    files.write_whole(folder / PHOTOS, found.photos)
    environment = Environment(
        loader=PackageLoader("fra_dist.report", "."), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    text = environment.get_template("map.html.j2").render(title=found.title, maps=[map_section(found)])
    files.write_whole(folder / PAGE, text)
    return [PAGE, MAP, PHOTOS]


def read_map(folder: Path) -> EmbeddingMap:
    """Read the map that `fra-dist embed` left in a folder.

    Raises DataError when it is missing or damaged, DiskError or AccessError when the disk does not tell.
    """
    facts, photos = files.read_object(folder / MAP) or {}, files.read_bytes(folder / PHOTOS)
    try:
        places = np.array(facts["places"], np.float64).reshape(-1, 2)
        found = EmbeddingMap(
            str(facts["title"]),
            str(facts["notes"]),
            [str(key) for key in facts["keys"]],
            places,
            {str(name): [str(label) for label in labels] for name, labels in facts["colourings"].items()},
            [int(tile) for tile in facts["tiles"]],
            _there(photos, folder / PHOTOS),
        )
        if {len(found.keys), len(found.tiles), *map(len, found.colourings.values())} != {len(places)}:
            raise ValueError("its lists differ in length")
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise DataError(f"{folder / MAP} cannot be used ({error}): run fra-dist embed again with --fresh") from None
    return found


def _there(content: bytes | None, path: Path) -> bytes:
    if content is None:
        raise ValueError(f"{path.name} is missing")
    return content


def maps_below(folders: Sequence[Path]) -> list[EmbeddingMap]:
    """Read every map below the folders, in the order of their paths. Raises DataError for a folder without one."""
    found = []
    for folder in folders:
        paths = files.paths_below(folder, MAP) if files.is_folder(folder) else []
        if not paths:
            raise no_map(folder)
        found += [read_map(path.parent) for path in paths]
    return found


def map_section(found: EmbeddingMap) -> Markup:
    """The map as HTML: the points in the colours of the first colouring, its legend, and a choice of the others."""
    coloured = {name: classes(labels) for name, labels in found.colourings.items()}
    legend, of_points = next(iter(coloured.values()), ([Label("photos", len(found.keys), "k0", "dot")], None))
    points = [
        Markup('<use href="#m-{}" class="{}" x="{:.1f}" y="{:.1f}"/>').format(label.shape, label.style, x, y)
        for label, (x, y) in zip([legend[k] for k in of_points or [0] * len(found.keys)], _spots(found), strict=True)
    ]
    said = f"{found.title}, {len(points)} points" + (f", coloured by {next(iter(coloured))}" if coloured else "")
    data: dict[str, Any] = {
        "keys": list(found.keys),
        "tiles": list(found.tiles),
        "colourings": [
            {
                "name": name,
                "legend": [vars(label) for label in entries],
                "of": numbers,
                "labels": found.colourings[name],
            }
            for name, (entries, numbers) in coloured.items()
        ],
    }
    environment = Environment(
        loader=PackageLoader("fra_dist.report", "."), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    return Markup(
        environment.get_template("map_section.html.j2").render(
            found=found,
            names=list(coloured),
            legend=legend,
            points=Markup("").join(points),
            said=said,
            size=(WIDTH, HEIGHT),
            tile=TILE,
            rows=-(-(max(found.tiles, default=-1) + 1) // ACROSS),
            across=min(max(found.tiles, default=-1) + 1, ACROSS),
            photos=data_uri(found.photos, "image/jpeg") if found.photos else "",
            data=Markup(json.dumps(data, ensure_ascii=False).replace("<", "\\u003c")),
        )
    )


def _spots(found: EmbeddingMap) -> list[tuple[float, float]]:
    """Where the points are drawn: the middle 98 % of each axis fills the picture, what lies outside is at its edge."""
    low, high = np.percentile(found.places, [1, 99], axis=0)
    shares = np.clip((found.places - low) / np.maximum(high - low, 1e-12), 0, 1)
    return [
        (_MARGIN + x * (WIDTH - 2 * _MARGIN), HEIGHT - _MARGIN - y * (HEIGHT - 2 * _MARGIN)) for x, y in shares.tolist()
    ]
