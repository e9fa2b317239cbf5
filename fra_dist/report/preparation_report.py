"""The page beside prepared shards: what was kept and left out, how large it is, and what it looks like."""

import base64
import io
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from numpy.typing import NDArray
from PIL import Image

from fra_dist.data.decoding.images import BadImage, decode
from fra_dist.data.making.faces.crop_notes import BINS, CROPS
from fra_dist.data.making.photo_sources import photo_bytes
from fra_dist.data.shards.contact_sheet import contact_sheet, sheet_ids
from fra_dist.data.shards.manifest import SKIPPED, Manifest
from fra_dist.errors import DataError
from fra_dist.files import failure, raw_text

_SHOWN, _EACH, _TILE = 48, 12, 96
_COPY = "near copy"


def write_preparation_page(manifest: Manifest, source: str, path: Path) -> Path:
    """Write one HTML file that opens offline, from `manifest` and the photos of `source` that were left out.

    Returns its path. Raises DataError when it cannot be written.
    """
    lines = raw_text(Path(str(manifest.folder)) / SKIPPED).splitlines()
    skipped = [json.loads(line) for line in lines]
    total = manifest.total + len(skipped)
    by_reason: dict[str, list[tuple[str, str]]] = {}
    for item in skipped:
        reason, _, detail = item["reason"].partition(":")
        by_reason.setdefault(reason, []).append((item["name"], detail.strip().removeprefix("of ")))
    ordered = sorted(by_reason.items(), key=lambda pair: -len(pair[1]))
    photos = photo_bytes(source, list(_shown(ordered)))
    heights, widths = _sizes(manifest)
    noted = _noted(manifest)
    ids = sheet_ids(manifest.total, _SHOWN)
    rendered = _environment().get_template("preparation.html.j2").render(
        title=f"Shards of {manifest.source.get('name', source)}",
        kept=f"{manifest.total:,}",
        total=f"{total:,}",
        kept_share=f"{manifest.total / total:.1%}",
        left_out=f"{len(skipped):,}",
        shards=f"{len(manifest.shards):,}",
        size=f"{sum(shard.bytes for shard in manifest.shards) / 1e6:,.1f} MB",
        grey=f"{manifest.stats.get('grey', 0):,}",
        median=f"{np.median(np.minimum(heights, widths)):.0f}",
        reasons=[(reason, f"{len(names):,}", f"{len(names) / total:.2%}") for reason, names in ordered],
        histograms=[
            ("Shorter side of the samples, pixels", _histogram(np.minimum(heights, widths))),
            ("Bytes of the samples, kB", _histogram(_lengths(manifest) / 1000)),
        ],
        crops=manifest.stats.get("crops"),
        scale=_scale(manifest),
        noted=[(kind, f"{len(found):,}", f"{len(found) / manifest.total:.2%}") for kind, found in noted],
        doubtful=[(kind, *_doubtful(manifest, found)) for kind, found in noted],
        sheet=_inline(contact_sheet(manifest, ids, _TILE)),
        shown=len(ids),
        rejected=list(_rejected(photos, ordered)),
        pairs=_pairs(photos, by_reason.get(_COPY, [])),
        facts=list(_facts(manifest)),
    )  # fmt: skip
    try:
        path.write_text(rendered, encoding="utf-8")
    except OSError as error:
        raise failure(error, f"cannot write {path}", DataError) from None
    return path


def _environment() -> Environment:
    return Environment(loader=PackageLoader("fra_dist.report", "."), undefined=StrictUndefined, autoescape=True)


def _sizes(manifest: Manifest) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    rows = [manifest.index(number) for number in range(len(manifest.shards))]
    return np.concatenate([r["height"] for r in rows]), np.concatenate([r["width"] for r in rows])


def _lengths(manifest: Manifest) -> NDArray[np.int32]:
    return np.concatenate([manifest.index(number)["length"] for number in range(len(manifest.shards))])


def _noted(manifest: Manifest) -> list[tuple[str, list[int]]]:
    """Kinds of notes on crops, the most frequent first, and the ids of the samples that have them."""
    if "crops" not in manifest.stats:
        return []
    found: dict[str, list[int]] = {}
    for line in raw_text(Path(str(manifest.folder)) / CROPS).splitlines():
        item = json.loads(line)
        for note in item["notes"]:
            found.setdefault(note.partition(":")[0], []).append(item["sample"])
    return sorted(found.items(), key=lambda pair: -len(pair[1]))


def _scale(manifest: Manifest) -> Markup | None:
    """The histogram of the crops' scale that the manifest holds; None for whole photos."""
    counts = manifest.stats.get("crops", {}).get("scale")
    if not counts:
        return None
    edges = np.linspace(BINS[0], BINS[1], len(counts) + 1)
    return _bars(np.array(counts), 2.0**edges)


def _doubtful(manifest: Manifest, samples: Sequence[int]) -> tuple[str, int]:
    """(sheet of some of the crops, how many are on it)."""
    some = np.array(samples)[sheet_ids(len(samples), _EACH)]
    return _inline(contact_sheet(manifest, some, _TILE)), len(some)


def _histogram(values: NDArray[Any], bins: int = 40) -> Markup:
    """How many of the values lie in each bin, as SVG."""
    low, high = float(values.min()), float(values.max())
    return _bars(*np.histogram(values, bins=bins if high > low else 1, range=(low, high if high > low else low + 1)))


def _bars(counts: NDArray[Any], edges: NDArray[Any]) -> Markup:
    """Bars as SVG, in the colours of the page: how many lie between each two edges."""
    width, height, foot = 640, 140, 18
    step, most = width / len(counts), max(1, int(counts.max()))
    bars = "".join(
        f'<rect x="{n * step:.1f}" y="{height - c * (height - 14) / most:.1f}" width="{max(step - 1.5, 1):.1f}" '
        f'height="{c * (height - 14) / most:.1f}" fill="var(--bar)"><title>{edges[n]:.4g} to {edges[n + 1]:.4g}: {c}'
        "</title></rect>"
        for n, c in enumerate(counts.tolist())
    )
    style = 'fill="var(--soft)" font-size="12"'
    text = f'<text x="{{x}}" y="{height + 14}" text-anchor="{{at}}" {style}>{{value:.4g}}</text>'
    marks = text.format(x=0, at="start", value=edges[0]) + text.format(x=width, at="end", value=edges[-1])
    line = f'<line x1="0" x2="{width}" y1="{height}" y2="{height}" stroke="var(--line)"/>'
    top = f'<text x="0" y="11" {style}>{most:,}</text>'
    size = f'viewBox="0 0 {width} {height + foot}" style="max-width:{width}px;width:100%"'
    return Markup(f'<svg {size} role="img" aria-label="Histogram">{bars}{line}{marks}{top}</svg>')


def _shown(ordered: Sequence[tuple[str, list[tuple[str, str]]]]) -> Iterator[str]:
    """Names of photos that are needed: more of each reason than are shown, since not all can be."""
    for reason, names in ordered:
        for pair in names[: _EACH if reason == _COPY else 4 * _EACH]:
            yield from pair if reason == _COPY else pair[:1]


def _rejected(
    photos: Mapping[str, bytes], ordered: Sequence[tuple[str, list[tuple[str, str]]]]
) -> Iterator[tuple[str, str, int]]:
    """(reason, picture, photos on it) for reasons whose photos can be shown at all."""
    for reason, names in ordered:
        if reason == _COPY:
            continue
        tiles = [tile for name, _ in names[: 4 * _EACH] if (tile := _tile(photos.get(name))) is not None][:_EACH]
        if tiles:
            yield reason, _inline(_grid(tiles, min(len(tiles), 6))), len(tiles)


def _pairs(photos: Mapping[str, bytes], copies: Sequence[tuple[str, str]]) -> str | None:
    tiles = []
    for pair in copies[:_EACH]:
        both = [_tile(photos.get(name)) for name in pair]
        if both[0] is not None and both[1] is not None:
            tiles.append(_grid([both[0], both[1]], 2, gap=0))
    return _inline(_grid(tiles, min(len(tiles), 3), gap=10)) if tiles else None


def _tile(data: bytes | None) -> Image.Image | None:
    if data is None:
        return None
    try:
        image = Image.fromarray(decode(data))
    except BadImage:
        return None
    image.thumbnail((_TILE, _TILE))
    tile = Image.new("RGB", (_TILE, _TILE), (128, 128, 128))
    tile.paste(image, ((_TILE - image.width) // 2, (_TILE - image.height) // 2))
    return tile


def _grid(tiles: Sequence[Image.Image], columns: int, gap: int = 4) -> Image.Image:
    width, height = tiles[0].size
    rows = -(-len(tiles) // columns)
    sheet = Image.new("RGB", (columns * (width + gap) - gap, rows * (height + gap) - gap), "white")
    for number, tile in enumerate(tiles):
        sheet.paste(tile, (number % columns * (width + gap), number // columns * (height + gap)))
    return sheet


def _inline(image: Image.Image) -> str:
    out = io.BytesIO()
    image.save(out, "WEBP", quality=80)
    return "data:image/webp;base64," + base64.b64encode(out.getvalue()).decode()


def _facts(manifest: Manifest) -> Iterator[tuple[str, str]]:
    """Source, options and versions as lines of a table; what was not asked for is left out."""
    for name, value in _flat({**manifest.source, "versions": dict(manifest.tools)}, ""):
        if value not in (None, "", []):
            yield name, str(value)


def _flat(tree: Any, prefix: str) -> Iterator[tuple[str, Any]]:
    if isinstance(tree, Mapping):
        for name, value in tree.items():
            yield from _flat(value, f"{prefix}{name}: " if isinstance(value, Mapping) else f"{prefix}{name}")
    else:
        yield prefix, tree
