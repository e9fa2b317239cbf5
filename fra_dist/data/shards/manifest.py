"""The manifest of a folder of shards: what it holds, where each sample lies, and statistics for the configuration.

    DIR/
      manifest.json           counts, sizes, checksums, statistics; docs/data.md describes it
      shard-000000.tar        a WebDataset tar
      shard-000000.idx.npy    its index: one row per sample, in the order of the tar (shards/index.py)
      skipped.jsonl           what was left out, and why

A sample has one number, its id: the samples of all shards counted through in the order of the manifest, from 0. Only
the sizes of the shards are held in memory; an index is read when one of its samples is asked for.
"""

import json
from pathlib import Path
from typing import Any

from fra_dist.data.shards import tars
from fra_dist.data.shards.index import ShardEntry
from fra_dist.data.shards.joined_sets import joined, only
from fra_dist.data.shards.manifest_record import Manifest
from fra_dist.data.shards.missing_files import check_shard_files, first_bytes
from fra_dist.data.shards.pixel_statistics import stats_misfit
from fra_dist.data.shards.shard_patterns import shard_sets
from fra_dist.data.stores.remote_folder import RemoteFolder, StoreOptions, is_remote
from fra_dist.errors import DataError
from fra_dist.files import exists, failure, write_whole
from fra_dist.stand_ins import stand_in

MANIFEST = "manifest.json"
"""File name of the manifest."""
SKIPPED = "skipped.jsonl"
"""File name of the list of what was left out, a JSON line each."""
FORMAT = 1
"""Version of the manifest's format that this code writes and reads."""


_SHARD_FIELDS: dict[str, type] = dict(name=str, samples=int, bytes=int, sha256=str, index=str, index_sha256=str)
_OTHER_FIELDS: dict[str, type] = dict(image_extensions=list, stats=dict, source=dict, tools=dict, skipped=int)


def read_members(manifest: Manifest, sample: int) -> dict[str, bytes]:
    """All members of a sample by extension: jpg, json and, in synthetic shards, mask.png. Raises DataError."""
    number, row = manifest.row(sample)
    return tars.members_at(manifest.path(number), int(row["start"]), manifest.every_image)


def load_manifest(folder: str | Path, check_files: bool = True, options: StoreOptions | None = None) -> Manifest:
    """Load the manifest of a folder of shards or of a URL, of some of its tars, or of several sets (`shard_patterns`).

    check_files: check that every tar is there with the size that the manifest names; options: how a URL is read.

    Raises DataError, in one line, when there is no manifest, it is damaged or of another version, or a file is missing
    or of another size.
    """
    if not str(folder):
        raise DataError("no folder of shards was named: set data.shards (fra-dist shards make writes one)")
    sets = []
    for place, pattern, weight in shard_sets(str(folder)):
        where = RemoteFolder(place, options) if is_remote(place) else Path(place)
        sets.append((only(_read(where), pattern), weight))
        if check_files:
            check_shard_files(where, sets[-1][0].shards, indices=False)
    return joined(sets)


def refuse_missing(folder: str | Path) -> None:
    """Raise the DataError of `load_manifest` when a local folder of shards has no manifest; nothing is read.

    Raises DiskError or AccessError when that cannot be known.
    """
    for place, _, _ in shard_sets(str(folder)):
        if not is_remote(place) and not exists(Path(place) / MANIFEST):
            _read(Path(place))


def _read(folder: Path | RemoteFolder) -> Manifest:
    raw = _read_json(folder)
    if raw.get("format") != FORMAT:
        raise DataError(f"{folder / MANIFEST} has format {raw.get('format')!r}; this version reads format {FORMAT}")
    entries = _entries(raw.get("shards"), folder)
    rest = {name: raw.get(name, kind()) for name, kind in _OTHER_FIELDS.items()}
    for name, kind in _OTHER_FIELDS.items():
        if type(rest[name]) is not kind:
            raise DataError(f"{folder / MANIFEST}: {name} is damaged; make it again")
    if (wrong := stats_misfit(rest["stats"])) is not None:
        raise DataError(f"{folder / MANIFEST}: {wrong} of the statistics is damaged; make it again")
    extensions = tuple(str(extension) for extension in rest.pop("image_extensions"))
    manifest = Manifest(folder, entries, extensions, **rest)
    if raw.get("samples") != manifest.total:
        raise DataError(
            f"{folder / MANIFEST} says {raw.get('samples')!r} samples, its shards have {manifest.total}: "
            "it is damaged; make it again"
        )
    return manifest


def write_manifest(manifest: Manifest) -> None:
    """Write `manifest.json`, completely or not at all. It holds no times, machine names or absolute paths.

    Raises DataError when it cannot be written.
    """
    head: dict[str, Any] = {
        "format": FORMAT,
        "samples": manifest.total,
        "bytes": sum(shard.bytes for shard in manifest.shards),
        "skipped": manifest.skipped,
        "image_extensions": list(manifest.image_extensions),
        "stats": dict(manifest.stats),
        "source": dict(manifest.source),
        "tools": dict(manifest.tools),
    }
    lines = [json.dumps({name: getattr(shard, name) for name in _SHARD_FIELDS}) for shard in manifest.shards]
    text = json.dumps(head, indent=1)[:-2] + ',\n "shards": [\n  ' + ",\n  ".join(lines) + "\n ]\n}\n"
    folder = manifest.local_folder
    try:
        write_whole(folder / MANIFEST, text)
    except OSError as error:
        raise failure(error, f"cannot write {folder / MANIFEST}", DataError) from None


def _read_json(folder: Path | RemoteFolder) -> dict[str, Any]:
    path = folder / MANIFEST
    data = first_bytes(folder, MANIFEST)
    if (found := stand_in(data)) is not None:
        raise DataError(f"{path} is {found}")
    try:
        raw = json.loads(data)
    except ValueError:  # also undecodable bytes
        raise DataError(f"{path} is not JSON: it is damaged or was cut; make it again") from None
    except RecursionError:
        raise DataError(f"{path} is not a manifest of shards") from None
    if not isinstance(raw, dict):
        raise DataError(f"{path} is not a manifest of shards")
    return raw


def _entries(raw: Any, folder: Path | RemoteFolder) -> tuple[ShardEntry, ...]:
    if not isinstance(raw, list) or not raw:
        raise DataError(f"{folder / MANIFEST} lists no shards")
    entries, start, names = [], 0, set()
    kinds = list(_SHARD_FIELDS.values())
    for number, item in enumerate(raw):
        values: list[Any] = [item.get(name) for name in _SHARD_FIELDS] if isinstance(item, dict) else []
        if list(map(type, values)) != kinds:
            raise DataError(f"{folder / MANIFEST}: shard {number} is damaged: a field is missing or of the wrong type")
        entry = ShardEntry(*(*values, start))
        possible = 0 <= entry.samples < 2**48 and 0 <= entry.bytes < 2**62
        if not (possible and _inside(entry.name) and _inside(entry.index)):
            raise DataError(f"{folder / MANIFEST}: shard {number} has an impossible size or a name outside the folder")
        if entry.name in names:
            raise DataError(f"{folder / MANIFEST} names shard {entry.name} twice")
        names.add(entry.name)
        entries.append(entry)
        start += entry.samples
        raw[number] = None  # with 10^5 shards the parsed file is as large as what is kept of it
    return tuple(entries)


def _inside(name: str) -> bool:
    """Whether a name is a relative path that stays below the folder."""
    return bool(name) and name[0] != "/" and "\0" not in name and "/../" not in f"/{name}/"
