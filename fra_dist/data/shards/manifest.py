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
import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fra_dist.data.shards import tars
from fra_dist.data.shards.index import Rows, ShardEntry, read_index
from fra_dist.data.shards.missing_files import check_shard_files, first_bytes
from fra_dist.data.shards.pixel_statistics import stats_misfit
from fra_dist.data.stores.remote_folder import RemoteFile, RemoteFolder, StoreOptions, is_remote
from fra_dist.errors import DataError

MANIFEST = "manifest.json"
"""File name of the manifest."""
SKIPPED = "skipped.jsonl"
"""File name of the list of what was left out, a JSON line each."""
FORMAT = 1
"""Version of the manifest's format that this code writes and reads."""
MAX_LOADED = 64
"""Number of index arrays that one manifest keeps in memory."""

_SHARD_FIELDS: dict[str, type] = dict(name=str, samples=int, bytes=int, sha256=str, index=str, index_sha256=str)
_OTHER_FIELDS: dict[str, type] = dict(image_extensions=list, stats=dict, source=dict, tools=dict, skipped=int)


@dataclass(frozen=True)
class Manifest:
    """A folder of shards: its files, samples and statistics. `load_manifest` makes one."""

    folder: Path | RemoteFolder
    """The folder that holds the shards, local or behind a URL."""
    shards: tuple[ShardEntry, ...]
    """One entry per shard, in the order in which sample ids count through them."""
    image_extensions: tuple[str, ...] = ("jpg",)
    """Extensions of the tar members that the index points to."""
    stats: Mapping[str, Any] = field(default_factory=dict)
    """mean and std (3 numbers each, RGB in [0, 1]), images (how many these come from), grey (how many are grey), and
    quantiles of height, width and bytes; see docs/data.md."""
    source: Mapping[str, Any] = field(default_factory=dict)
    """What the shards were made from and with which options."""
    tools: Mapping[str, str] = field(default_factory=dict)
    """Versions of the libraries that decide the bytes of the shards, by name."""
    skipped: int = 0
    """Number of lines in `skipped.jsonl`."""
    _loaded: dict[int, Rows] = field(default_factory=dict, repr=False, compare=False)

    @cached_property
    def total(self) -> int:
        """Number of samples in all shards."""
        return self.shards[-1].start + self.shards[-1].samples if self.shards else 0

    @cached_property
    def sizes(self) -> NDArray[np.int64]:
        """Number of samples in each shard, (len(shards),)."""
        return np.fromiter((shard.samples for shard in self.shards), np.int64, len(self.shards))

    @cached_property
    def starts(self) -> NDArray[np.int64]:
        """Id of each shard's first sample, (len(shards),)."""
        return np.fromiter((shard.start for shard in self.shards), np.int64, len(self.shards))

    def locate(self, ids: ArrayLike) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """(shard numbers, positions in the shard) of sample ids, each in the shape of `ids`.

        Raises IndexError for an id outside 0 .. total - 1.
        """
        wanted = np.asarray(ids, np.int64)
        if wanted.size and not (int(wanted.min()) >= 0 and int(wanted.max()) < self.total):
            raise IndexError(f"sample ids run from 0 to {self.total - 1}")
        numbers = np.searchsorted(self.starts, wanted, side="right") - 1  # an empty shard shares the start of the next
        return numbers, wanted - self.starts[numbers]

    @property
    def every_image(self) -> bool:
        """Whether each image of a tar is a sample by itself, rather than each group of members with one key."""
        return self.source.get("images") == "every"

    @property
    def local_folder(self) -> Path:
        """The folder as a local path. Raises DataError when the shards are behind a URL."""
        if isinstance(self.folder, RemoteFolder):
            raise DataError(f"this needs shards in a local folder: copy {self.folder} first")
        return self.folder

    def separate(self) -> "Manifest":
        """The same manifest for a reader that counts its own fetches and can be stopped by itself."""
        return replace(self, folder=self.folder.separate()) if isinstance(self.folder, RemoteFolder) else self

    def path(self, shard: int) -> Path | RemoteFile:
        """The tar of a shard, by the shard's number: a local path, or a file of the remote folder."""
        entry = self.shards[shard]
        if isinstance(self.folder, RemoteFolder):
            return RemoteFile(self.folder, entry.name, entry.bytes)
        return self.folder / entry.name

    def index(self, shard: int) -> Rows:
        """The index of a shard: (samples,) of INDEX_DTYPE, read-only; the last MAX_LOADED used stay in memory.

        Raises DataError when the tar or its index is missing, damaged or does not fit the manifest.
        """
        rows = self._loaded.pop(shard, None)
        if rows is None:
            rows = read_index(self.folder, self.shards[shard])
            for old in list(self._loaded)[: max(0, len(self._loaded) - MAX_LOADED + 1)]:
                self._loaded.pop(old, None)
        self._loaded[shard] = rows  # now the most recent
        return rows

    def row(self, sample: int) -> tuple[int, Any]:
        """(shard number, index row) of one sample. Raises IndexError or DataError as `locate` and `index` do."""
        numbers, positions = self.locate([sample])
        return int(numbers[0]), self.index(int(numbers[0]))[int(positions[0])]

    def key(self, sample: int) -> str:
        """WebDataset key of a sample, read from its tar header. Raises DataError."""
        number, row = self.row(sample)
        return tars.key_at(self.path(number), int(row["start"]), self.every_image)

    def where(self, sample: int) -> tuple[str, str]:
        """(shard file, key) of a sample, for messages; when the header is damaged, its byte stands for the key."""
        number, row = self.row(sample)
        start = int(row["start"])
        try:
            return self.shards[number].name, tars.key_at(self.path(number), start, self.every_image)
        except DataError:
            return self.shards[number].name, f"(byte {start})"

    def image(self, sample: int) -> bytes:
        """Encoded image of a sample. Raises DataError when the tar no longer holds all of it."""
        number, row = self.row(sample)
        return tars.read_range(self.path(number), int(row["offset"]), int(row["length"]))


def read_members(manifest: Manifest, sample: int) -> dict[str, bytes]:
    """All members of a sample by extension: jpg, json and, in synthetic shards, mask.png. Raises DataError."""
    number, row = manifest.row(sample)
    return tars.members_at(manifest.path(number), int(row["start"]), manifest.every_image)


def load_manifest(folder: str | Path, check_files: bool = True, options: StoreOptions | None = None) -> Manifest:
    """Load the manifest of a folder of shards, or of a URL.

    check_files: check that every tar is there with the size that the manifest names; options: how a URL is read.

    Raises DataError, in one line, when there is no manifest, it is damaged or of another version, or a file is missing
    or of another size.
    """
    if not str(folder):
        raise DataError("no folder of shards was named: set data.shards (fra-dist shards make writes one)")
    place = RemoteFolder(str(folder), options) if is_remote(folder) else Path(folder)
    manifest = _read(place)
    if check_files:
        check_shard_files(place, manifest.shards, indices=False)
    return manifest


def _read(folder: Path | RemoteFolder) -> Manifest:
    raw = _read_json(folder)
    if raw.get("format") != FORMAT:
        raise DataError(f"{folder / MANIFEST} has format {raw.get('format')!r}; this version reads format {FORMAT}")
    entries = _entries(raw.get("shards"), folder)
    rest = {name: raw.get(name, kind()) for name, kind in _OTHER_FIELDS.items()}
    for name, kind in _OTHER_FIELDS.items():
        if type(rest[name]) is not kind:
            raise DataError(f"{folder / MANIFEST}: {name} is damaged; make it anew")
    if (wrong := stats_misfit(rest["stats"])) is not None:
        raise DataError(f"{folder / MANIFEST}: {wrong} of the statistics is damaged; make it anew")
    extensions = tuple(str(extension) for extension in rest.pop("image_extensions"))
    manifest = Manifest(folder, entries, extensions, **rest)
    if raw.get("samples") != manifest.total:
        raise DataError(
            f"{folder / MANIFEST} says {raw.get('samples')!r} samples, its shards have {manifest.total}: "
            "it is damaged; make it anew"
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
    partial = folder / (MANIFEST + ".part")
    try:
        with open(partial, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, folder / MANIFEST)
    except OSError as error:
        raise DataError(f"cannot write {folder / MANIFEST}: {error.strerror}") from None


def _read_json(folder: Path | RemoteFolder) -> dict[str, Any]:
    path = folder / MANIFEST
    try:
        raw = json.loads(first_bytes(folder, MANIFEST))
    except ValueError:  # also undecodable bytes
        raise DataError(f"{path} is not JSON: it is damaged or was cut; make it anew") from None
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
