"""Checks that a folder of shards is what its manifest says: tars, indices, keys, statistics and pixels."""

import hashlib
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from fra_dist.data.decoding.images import BadImage
from fra_dist.data.making.cleaning import decode_verified, look
from fra_dist.data.making.workers import Progress, in_order, usable_cores
from fra_dist.data.shards import tars
from fra_dist.data.shards.index import GREY, PLAIN, Rows, ShardEntry, read_index
from fra_dist.data.shards.manifest import MANIFEST, SKIPPED, Manifest
from fra_dist.data.shards.pixel_statistics import size_stats
from fra_dist.errors import DataError
from fra_dist.files import ABSENT, open_stream, raw_bytes

_KINDS = PLAIN | GREY
_MOST = 50  # problems of one shard that are reported


class ShardCheck(NamedTuple):
    """The result of checking one shard: its problems, and what a check across shards needs."""

    problems: list[str]
    """What is wrong with the shard, a line each."""
    keys: NDArray[np.uint64]
    """64-bit hashes of the keys of its samples."""
    decoded: int
    """How many of its images were decoded."""


@dataclass(frozen=True)
class CheckTask:
    """The check of one shard, which any process can run by calling it."""

    folder: Path
    """The folder of shards."""
    entry: ShardEntry
    """What the manifest says of the shard."""
    positions: tuple[int, ...] | None
    """Positions of the samples to decode in the shard's index; None decodes all."""
    all_indexed: bool
    """Whether every sample of the tar must be in the index."""
    every_image: bool = False
    """Whether each image is a sample by itself, rather than each group of members with one key."""

    def __call__(self) -> ShardCheck:
        name, path = self.entry.name, self.folder / self.entry.name
        nothing = np.zeros(0, np.uint64)
        try:
            problems = _checksum(path, self.entry)
            found = list(tars.group_samples(tars.scan(path), self.every_image))
            problems += [str(item) for item in found if isinstance(item, tars.TarDamage)]
            rows = read_index(self.folder, self.entry)
        except OSError as error:
            return ShardCheck([f"{name}: cannot read: {error.strerror}"], nothing, 0)
        except DataError as error:
            return ShardCheck([f"{name}: {problem}" for problem in (*problems, error)], nothing, 0)
        samples = {item.start: item for item in found if isinstance(item, tars.Sample)}
        problems += self._against_tar(rows, samples)
        chosen = range(len(rows)) if self.positions is None else self.positions
        for position in chosen:
            reason = _look_at(path, rows[position])
            if reason is not None:
                sample = samples.get(int(rows[position]["start"]))
                problems.append(f"{_name(sample) if sample else f'sample {position}'}: {reason}")
        keys = np.array([_hash(samples[at].key) for at in rows["start"].tolist() if at in samples], np.uint64)
        if len(problems) > _MOST:
            problems = [*problems[:_MOST], f"and {len(problems) - _MOST} problems more"]
        return ShardCheck([f"{name}: {problem}" for problem in problems], keys, len(chosen))

    def _against_tar(self, rows: Rows, samples: dict[int, tars.Sample]) -> Iterator[str]:
        for position, row in enumerate(rows):
            sample = samples.get(int(row["start"]))
            if sample is None:
                yield f"sample {position} of the index does not begin at byte {int(row['start'])} of the tar"
            elif (int(row["offset"]), int(row["length"])) not in {(m.offset, m.size) for m in sample.members.values()}:
                yield f"{_name(sample)}: the index has another place or length for its image"
        if self.all_indexed and len(samples) != len(rows):
            yield f"the tar has {len(samples)} samples, its index {len(rows)}"


def check_shards(
    manifest: Manifest, decode: int | None = 0, workers: int | None = None, progress: Progress | None = None
) -> Iterator[str]:
    """Yield what is wrong with a folder of shards, a line each that names shard and key.

    Checked are checksums, the structure of the tars, indices, that keys are unique, decoding, and the manifest's
    statistics. decode: how many images to decode, evenly spaced over the set, None for all; workers: processes, None
    for one per core; progress: called with the number of shards checked and their total.
    """
    made_here = manifest.source.get("kind") != "tars"
    tasks = [
        CheckTask(manifest.local_folder, entry, positions, made_here, manifest.every_image)
        for entry, positions in zip(manifest.shards, _chosen(manifest, decode), strict=True)
    ]
    hashes = list[NDArray[np.uint64]]()
    for number, result in enumerate(in_order(tasks, min(workers or usable_cores(), len(tasks)))):
        yield from result.problems
        hashes.append(result.keys)
        if progress is not None:
            progress(number + 1, len(tasks))
    yield from _repeated(manifest, hashes)
    yield from _against_manifest(manifest)


def _against_manifest(manifest: Manifest) -> Iterator[str]:
    """What the manifest says of the set, against the indices and the list of what was left out."""
    try:
        found = size_stats(read_index(manifest.local_folder, entry) for entry in manifest.shards)
    except DataError:
        return  # named already, with its shard
    for name, value in found.items():
        if manifest.stats.get(name, value) != value:
            yield f"{MANIFEST}: its statistics of {name} are not those of the indices"
    try:
        lines = raw_bytes(manifest.local_folder / SKIPPED).count(b"\n")
    except OSError as error:
        if manifest.skipped or error.errno not in ABSENT:
            yield f"{SKIPPED}: cannot read: {error.strerror}"
        return
    if lines != manifest.skipped:
        yield f"{SKIPPED}: {lines} lines, the manifest says {manifest.skipped}"


def _chosen(manifest: Manifest, decode: int | None) -> list[tuple[int, ...] | None]:
    """Positions to decode in each shard."""
    if decode is None:
        return [None] * len(manifest.shards)
    ids = np.unique(np.linspace(0, manifest.total - 1, min(decode, manifest.total)).astype(np.int64))
    numbers, places = manifest.locate(ids)
    cuts = np.searchsorted(numbers, np.arange(1, len(manifest.shards)))
    return [tuple(part.tolist()) for part in np.split(places, cuts)]


def _checksum(path: Path, entry: ShardEntry) -> list[str]:
    with open_stream(path) as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return [] if digest == entry.sha256 else ["its bytes are not those of the manifest (the checksum differs)"]


def _look_at(path: Path, row: Rows) -> str | None:
    """Why an image is bad or not as its index says, or None."""
    try:
        data = tars.read_range(path, int(row["offset"]), int(row["length"]))
        height, width, flags = look(data)
        decode_verified(data)
    except (BadImage, DataError) as error:
        return str(error)
    if (height, width) != (int(row["height"]), int(row["width"])):
        return f"it is {width}x{height}, its index says {int(row['width'])}x{int(row['height'])}"
    if zlib.crc32(data) != int(row["crc"]):
        return "its bytes are not those of its index (the checksum differs)"
    if flags & _KINDS != int(row["flags"]) & _KINDS:
        return "its index says that it is a picture of another kind"
    return None


def _name(sample: tars.Sample) -> str:
    return sample.key if sample.key.isprintable() else ascii(sample.key)


def _hash(key: str) -> int:
    return int.from_bytes(hashlib.blake2b(key.encode("utf-8", "surrogateescape"), digest_size=8).digest(), "little")


def _repeated(manifest: Manifest, hashes: list[NDArray[np.uint64]]) -> Iterator[str]:
    """Keys that stand for more than one sample (8 bytes a key in memory)."""
    values, times = np.unique(np.concatenate(hashes), return_counts=True)
    many = values[times > 1]
    if not many.size:
        return
    for number, keys in enumerate(hashes):
        for position in np.flatnonzero(np.isin(keys, many)).tolist():
            key = manifest.key(int(manifest.starts[number]) + position)
            yield f"{manifest.shards[number].name}: {key}: the key is used more than once"
