"""Indexes one tar: a task that any process can call."""

import hashlib
import zlib
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from fra_dist.data.decoding.images import BadImage
from fra_dist.data.making.cleaning import decode_verified, look
from fra_dist.data.shards import tars
from fra_dist.data.shards.index import CHECKED, DECODED, INDEX_DTYPE, ShardEntry, index_bytes, index_name
from fra_dist.data.shards.pixel_statistics import Moments, pixel_moments
from fra_dist.data.shards.samples import Skip
from fra_dist.data.shards.tar_reads import Opened
from fra_dist.errors import DataError
from fra_dist.files import failure, open_stream, write_whole

IMAGE_EXTENSIONS = frozenset(["jpg", "jpeg", "png", "webp", "avif", "bmp", "gif", "tif", "tiff", "ppm", "pgm"])
"""Extensions of the members that are taken for images."""
_MOST_BYTES = 1 << 30
_NAMED = 4  # extensions of one sample that a note lists
_COMPRESSED = {"gzip": b"\x1f\x8b", "zstd": b"\x28\xb5\x2f\xfd", "xz": b"\xfd7zXZ\0", "bzip2": b"BZh", "zip": b"PK\3\4"}


class Indexed(NamedTuple):
    """The result of indexing one tar: its entry for the manifest, and counts of what was found and left out."""

    entry: ShardEntry
    """The shard's entry for the manifest."""
    skipped: list[Skip]
    """Entries that were left out."""
    damage: list[str]
    """Damaged places of the tar, a line each."""
    images: Counter[str]
    """How many images of each extension were indexed."""
    several: Counter[str]
    """How many samples have several images, by the images' extensions, the one that counts first."""
    crowded: Counter[str]
    """Extensions of the images in samples with more than one where none has a simple extension, as `jpg` is."""
    crowds: int
    """Number of samples with more than one image where none has a simple extension."""
    extensions: set[str]
    """All extensions of members in the tar."""
    without: int
    """Number of samples that have no image."""
    moments: Moments
    """Sum of the images' moments; zero unless the images were decoded."""


@dataclass(frozen=True)
class IndexTask:
    """Index `folder/NAME.tar`: calling it writes `folder/NAME.idx.npy` and says what was found; see `index_tars`."""

    folder: Path
    """The folder of tars."""
    name: str
    """File name of the tar, relative to the folder."""
    wanted: tuple[str, ...]
    """Extensions of the images that count; empty for all that are known."""
    every: bool
    """Whether each image is a sample by itself; otherwise a sample has one image."""
    decode: bool
    """Whether every image is decoded completely; otherwise only what can be told without decoding is checked."""

    def __call__(self) -> Indexed:
        path = self.folder / self.name
        skipped, damage = list[Skip](), list[str]()
        images, several, extensions = Counter[str](), Counter[str](), set[str]()
        packed = compression(path)
        if packed is not None:
            raise DataError(f"{path} is compressed ({packed}), so its files cannot be found by place: unpack it first")
        if (found := tars.stands_in(path)) is not None:
            raise DataError(f"{path} is {found}")
        crowded, crowds = Counter[str](), 0
        without, total, rows = 0, np.zeros(7, np.int64), list[tuple[int, ...]]()
        for sample in tars.group_samples(tars.scan(path)):
            if isinstance(sample, tars.TarDamage):
                damage.append(str(sample))
                skipped.append(Skip(self.name, str(sample)))
                continue
            if isinstance(sample, tars.UnreadableMember):
                if sample.name.lower().rpartition(".")[2] in IMAGE_EXTENSIONS:
                    skipped.append(Skip(f"{self.name}: {sample.name}", sample.reason))
                continue
            extensions.update(sample.members)
            choice = choose_images(sample.members, self.wanted)
            if not choice:
                without += 1
                skipped.append(Skip(f"{self.name}: {sample.key}", "no image in this sample"))
            if len(choice) > 1 and not self.every:
                several[", ".join(choice[:_NAMED]) + (", ..." if len(choice) > _NAMED else "")] += 1
                if not self.wanted and "." in choice[0]:
                    crowded.update(choice)
                    crowds += 1
            for extension in choice if self.every else choice[:1]:
                member = sample.members[extension]
                try:
                    *measured, part = self._measure(path, member)
                except BadImage as error:
                    skipped.append(Skip(f"{self.name}: {member.name}", str(error)))
                    continue
                total += part
                images[extension if self.wanted else extension.rpartition(".")[2] if self.every else extension] += 1
                start = member.start if self.every else sample.start
                rows.append((start, member.offset, member.size, *measured))
        rows.sort()  # images of a sample, which came in the order in which they count
        entry = self._write(path, np.array(rows, INDEX_DTYPE))
        return Indexed(entry, skipped, damage, images, several, crowded, crowds, extensions, without, total)

    def _measure(self, path: Path, member: tars.Member) -> tuple[int, int, int, int, Moments]:
        """Height, width, flags, CRC-32 and pixel statistics of an image. Raises BadImage."""
        if member.size > _MOST_BYTES:
            raise BadImage(f"{member.size} bytes")
        data = tars.read_range(path, member.offset, member.size)
        height, width, flags = look(data)
        crc = zlib.crc32(data)
        if self.decode:
            return height, width, flags & ~CHECKED | DECODED, crc, pixel_moments(decode_verified(data))
        return height, width, flags, crc, np.zeros(7, np.int64)

    def _write(self, path: Path, rows: np.ndarray) -> ShardEntry:
        data = index_bytes(rows)
        try:
            with open_stream(path) as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
                size = file.tell()
            write_whole(self.folder / index_name(self.name), data)
        except OSError as error:
            raise failure(error, f"cannot index {path}", DataError) from None
        index_digest = hashlib.sha256(data).hexdigest()
        return ShardEntry(self.name, len(rows), size, digest, index_name(self.name), index_digest, 0)


def compression(path: Path) -> str | None:
    """How a file that should be a tar is compressed, by its first bytes; None when it is not. Raises DataError."""
    with Opened(path) as read:
        head = read(6, 0)
    return next((name for name, magic in _COMPRESSED.items() if head.startswith(magic)), None)


def choose_images(members: dict[str, tars.Member], wanted: tuple[str, ...]) -> list[str]:
    """Extensions of a sample's images, the one that counts first; empty when it has none.

    wanted: only these extensions count (in any case of letters), in this order; none: those of images, the simplest
    (`jpg` before `mask.png`) first.
    """
    if wanted:
        return [found for name in wanted for found in members if found.lower() == name]
    images = [extension for extension in members if extension.lower().rpartition(".")[2] in IMAGE_EXTENSIONS]
    return sorted(images, key=lambda extension: extension.count("."))  # stable: the tar's order decides
