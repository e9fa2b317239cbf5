"""What the manifest of a folder of shards says, as one object: where each sample lies, and statistics."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fra_dist.data.shards import tars
from fra_dist.data.shards.index import Rows, ShardEntry, read_index
from fra_dist.data.stores.remote_folder import RemoteFile, RemoteFolder
from fra_dist.errors import DataError

MAX_LOADED = 64
"""Number of index arrays that one manifest keeps in memory."""


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
        """Number of samples in all shards of the set; sample ids are 0 to total - 1."""
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
