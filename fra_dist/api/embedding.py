"""Embeddings of many photos on disk, for Python and for `fra-dist embed`."""

import os
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from fra_dist.api.embedding_pictures import Wanted, draw_pictures
from fra_dist.api.face_model import FaceModel, load
from fra_dist.api.photos import as_paths
from fra_dist.errors import ConfigError, DataError
from fra_dist.eval.embed.colourings import read_label_table
from fra_dist.eval.embed.compute import ABOUT, KINDS, check_kinds
from fra_dist.eval.embed.embedding_run import embed as embed_parts
from fra_dist.eval.embed.photo_stream import Files, PhotoList, no_photos, open_shards
from fra_dist.eval.embed.pieces import Parts
from fra_dist.eval.embed.result_files import MANIFEST, check_format, write_embedding_manifest, write_embeddings
from fra_dist.eval.features.encoder import Encoder
from fra_dist.files import exists, is_folder
from fra_dist.report.user_photos import find_photos
from fra_dist.train.run_dir.folder import versions

Tell = Callable[[int, int], None]
"""Called after each batch with its number of photos, and of those that could not be decoded."""
Begin = Callable[[int, int], Tell]
"""Called with the number of photos and how many of them an earlier call did; gives what is told of each batch."""


@dataclass(frozen=True)
class Embeddings:
    """What `embed` wrote."""

    folder: Path
    """The folder of the result; its manifest.json describes everything in it."""
    arrays: dict[str, tuple[int, ...]]
    """Shape of each array by name: pooled (N, C), projected (N, D), regions (N, Q, D), heatmaps (N, Q, H, W)."""
    left_out: int
    """Photos that could not be decoded; quarantine.jsonl names them."""
    seconds: float
    """Time it took."""

    def load(self, name: str = "pooled") -> NDArray[np.floating[Any]]:
        """An array of the format npy, mapped into memory, row by row as in rows.csv. Raises DataError without it."""
        path = self.folder / f"{name}.npy"
        try:
            return np.load(path, mmap_mode="r", allow_pickle=False)  # type: ignore[no-any-return]
        except OSError as error:
            raise DataError(
                f"cannot read {path}: {error.strerror or error}; there are {', '.join(self.arrays)}"
            ) from None


@dataclass(frozen=True)
class EmbedOptions:
    """What is written, and how."""

    what: Sequence[str] = KINDS[:1]
    """Any of embeddings, regions and heatmaps."""
    format: Literal["npy", "parquet"] = "npy"
    """Format of the arrays."""
    half: bool = False
    """16-bit numbers, in which flat heatmaps lose their differences."""
    batch: int = 64
    """Photos at a time."""
    limit: int | None = None
    """The first photos only."""
    map: Literal["pca", "tsne", "none"] = "pca"
    """How the map of pooled features is made."""
    neighbours: int = 9
    """Photos beside each query on the sheet of neighbours; 0: no sheet."""
    labels: str | Path | None = None
    """A table (CSV) with a column key (path of a photo below its folder) and columns of labels to colour the map by."""
    clusters: int = 8
    """Most clusters to colour the map by; 0: none."""
    fresh: bool = False
    """Begin again, whatever the folder holds."""


def embed(
    model: FaceModel | str | Path | Callable[[], FaceModel],
    photos: str | Path | Sequence[str | Path],
    out: str | Path,
    options: EmbedOptions | None = None,
    *,
    begin: Begin | None = None,
    **settings: Any,
) -> Embeddings:
    """Write the embeddings of photos, or of shards, into a folder, as `fra-dist embed` does.

    model: as `fra_dist.load` gives or takes it, or a function that gives it; photos: files, folders or patterns, or a
    folder or URL of shards; out: the folder, in which an interrupted call resumes; settings: those of `EmbedOptions` by
    name.
    begin: how progress is told, see `Begin`; by itself nothing is.

    Raises CheckpointError, ConfigError or DataError. Photos that cannot be decoded are left out and listed.

        found = fra_dist.embed("runs/mine", "faces", "embeddings", what=("embeddings", "regions"))
        pooled = found.load("pooled")  # (N, C)
    """
    chosen, folder, began = _chosen(options, settings), Path(os.path.expanduser(out)), time.monotonic()
    chosen = replace(chosen, what=_kinds(chosen.what))
    check_format(chosen.format)
    if exists(folder / MANIFEST) and not chosen.fresh:
        raise DataError(f"{folder} holds embeddings already: give another folder (--out), or --fresh (fresh=True)")
    table = None if chosen.labels is None else read_label_table(chosen.labels)
    source = find_source(as_paths(photos, "embed"), chosen.limit)
    if not isinstance(model, FaceModel):
        model = load(model) if isinstance(model, str | Path) else model()
    encoder = model.encoder
    check_kinds(encoder, chosen.what)
    what = [kind for kind in KINDS if kind in chosen.what]
    plan = {"network": encoder.digest(), "photos": source.digest(), "what": what, "half": chosen.half}
    parts = Parts(folder, plan, len(source), chosen.fresh)
    tell = (
        _quiet
        if begin is None
        else begin(len(source), len(source) - sum(len(parts.places(n)) for n in parts.missing()))
    )
    dtype: np.dtype[Any] = np.dtype(np.float16 if chosen.half else np.float32)
    embed_parts(encoder, source, parts, what, dtype=dtype, batch=chosen.batch, tell=tell)
    if not parts.names():
        first = next(parts.bad())
        raise DataError(f"none of {len(source)} photos could be decoded ({first['key']}: {first['reason']})")
    wanted = Wanted(chosen.map, chosen.neighbours, chosen.clusters, table, str(chosen.labels))
    return _finish(chosen, encoder, source, parts, wanted, began)


def find_source(places: Sequence[str | Path], limit: int | None) -> PhotoList:
    """The photos, or shards, behind names. Raises DataError when there are none."""
    words = [os.path.expanduser(str(place)) for place in places]
    shards = open_shards(words[0], limit) if len(words) == 1 else None
    if shards is not None:
        return shards
    found, missing = find_photos(words)
    for gone in missing:
        print(gone, file=sys.stderr)
    if not found:
        raise no_photos(words[0] if words else "")
    return Files(found[:limit], Path(words[0]) if len(words) == 1 and is_folder(Path(words[0])) else Path())


def _finish(
    options: EmbedOptions, encoder: Encoder, source: PhotoList, parts: Parts, wanted: Wanted, began: float
) -> Embeddings:
    """Write the result, draw, write the manifest."""
    arrays = write_embeddings(parts, options.format)
    rows, left_out = parts.shape(parts.names()[0])[0], sum(1 for _ in parts.bad())
    facts = {
        "network": encoder.describe(),
        "data": {**source.describe(), "digest": source.digest(), "crop": "middle square"},
        "rows": rows,
        "left_out": left_out,
        "format_of_arrays": options.format,
        "arrays": {name: {**shape, "what": ABOUT[name]} for name, shape in arrays.items()},
        "pictures": draw_pictures(parts, source, parts.out, wanted),
        "seconds": round(time.monotonic() - began, 1),
        "versions": versions(encoder.device),
    }
    write_embedding_manifest(parts.out, facts)
    parts.remove()
    shapes = {name: tuple(shape["shape"]) for name, shape in arrays.items()}
    return Embeddings(parts.out, shapes, left_out, time.monotonic() - began)


def _chosen(options: EmbedOptions | None, settings: dict[str, Any]) -> EmbedOptions:
    if options is not None and not settings:
        return options
    try:
        return EmbedOptions(**{**(vars(options) if options else {}), **settings})
    except TypeError as error:
        raise DataError(f"embed: {str(error).removeprefix('EmbedOptions.__init__() ')}") from None


def _kinds(what: str | Sequence[str]) -> tuple[str, ...]:
    """The kinds that are asked for, also as one text with commas. Raises ConfigError for one that there is not."""
    found = tuple(what.split(",")) if isinstance(what, str) else tuple(what)
    wrong = [kind for kind in found if kind not in KINDS]
    if wrong or not found:
        raise ConfigError(f"embed: what={what!r} is not one or more of {', '.join(KINDS)}")
    return found


def _quiet(photos: int, bad: int) -> None:
    """Progress that nobody asked for."""
