"""Photos in a fixed order, from files or from shards, decoded ahead of the network; broken ones are reported, not
fatal.

Every photo is cut to its middle square and scaled as `eval/datasets/common/crop_rules.py` does it for crops of faces.
"""

import hashlib
import os
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from fra_dist.data.decoding.images import BadImage
from fra_dist.data.making.cleaning import decode_verified
from fra_dist.data.shards.manifest import MANIFEST, Manifest, load_manifest, read_members
from fra_dist.data.shards.reader import ShardReader, open_shard_source
from fra_dist.data.stores.remote_folder import is_remote
from fra_dist.errors import DataError
from fra_dist.eval.datasets.common.crop_rules import CropRule, NoFace, cut_photo, square_of
from fra_dist.files import exists, is_folder, lasting_reason, parse_object, paths_in, raw_bytes

MIDDLE = CropRule("middle")
AHEAD = 3
"""How many batches are decoded before they are asked for."""
THREADS = 2


class EncodedPhoto(NamedTuple):
    """One photo of a list to be embedded: its key and its encoded bytes, or why there are none."""

    key: str
    """Path of the photo below the folder, or its key in a shard."""
    shard: str
    """Name of the shard; empty for files."""
    data: bytes
    """The encoded bytes."""
    fault: str = ""
    """Why there are no bytes to decode; empty if there are."""


class DecodedPhoto(NamedTuple):
    """A photo of the list, decoded unless `fault` says why not."""

    place: int
    """Place of the photo in the list."""
    key: str
    """Path of the photo below the folder, or its key in a shard."""
    shard: str
    """Name of the shard; empty for files."""
    square: NDArray[np.uint8] | None
    """(S, S, 3) the middle square; None when there is a fault, and when it is not needed any more."""
    height: int = 0
    """Height of the upright photo in pixels."""
    width: int = 0
    """Width of the upright photo in pixels."""
    fault: str = ""
    """Why the photo could not be decoded; empty if it was."""


class PhotoList(Protocol):
    """A list of photos. Reading belongs to one thread."""

    def __len__(self) -> int: ...

    def read(self, places: Sequence[int]) -> list[EncodedPhoto]:
        """The encoded photos at some places of the list."""
        ...

    def labels(self, places: Sequence[int]) -> list[dict[str, str]]:
        """What is known about the photos at some places: names of labels and their values as text."""
        ...

    def digest(self) -> str:
        """A digest that changes when the list, or a file that it names, does."""
        ...

    def describe(self) -> dict[str, object]:
        """What the list is, as plain values for the manifest."""
        ...


@dataclass(frozen=True)
class Files:
    """A list of photos to be embedded that lie in files of their own, in the order given."""

    paths: Sequence[Path]
    """Paths of the files."""
    folder: Path
    """The folder that keys are relative to."""

    def __len__(self) -> int:
        return len(self.paths)

    def read(self, places: Sequence[int]) -> list[EncodedPhoto]:
        """The bytes of the files at some places; a file that cannot be read has a fault.

        Raises DiskError when another attempt may read it.
        """
        found = []
        for place in places:
            key = self.key(self.paths[place])
            try:
                found.append(EncodedPhoto(key, "", raw_bytes(self.paths[place])))
            except OSError as error:
                found.append(EncodedPhoto(key, "", b"", lasting_reason(error, f"cannot read {self.paths[place]}")))
        return found

    def labels(self, places: Sequence[int]) -> list[dict[str, str]]:
        """The folder that each photo lies in, below that of the list."""
        return [_folder_of(self.key(self.paths[place])) for place in places]

    def key(self, path: Path) -> str:
        """The key of a file, as any text file can hold it: bytes that are not UTF-8 become `?`."""
        below = path.relative_to(self.folder) if path.is_relative_to(self.folder) else path
        return os.fsencode(below).decode("utf-8", "replace").replace("�", "?")

    def digest(self) -> str:
        """A digest of the keys, sizes and times of change."""
        found = hashlib.blake2b(digest_size=16)
        for path in self.paths:
            try:
                state = path.stat()
                size, changed = state.st_size, state.st_mtime_ns
            except OSError:
                size, changed = -1, -1
            found.update(f"{self.key(path)}\0{size}\0{changed}\n".encode())
        return found.hexdigest()

    def describe(self) -> dict[str, object]:
        """The kind of the list, its folder and its length."""
        return {"kind": "files", "folder": str(self.folder), "photos": len(self)}


class Shards:
    """The samples of a folder of shards, or of a URL, in the order of the manifest; the first `limit` of them."""

    def __init__(self, manifest: Manifest, limit: int | None = None) -> None:
        self.manifest = manifest
        self.count = min(limit or manifest.total, manifest.total)
        self.reader = ShardReader(manifest, open_shard_source(manifest))

    def __len__(self) -> int:
        return self.count

    def read(self, places: Sequence[int]) -> list[EncodedPhoto]:
        """The encoded samples at some places; one whose bytes are not those indexed has a fault."""
        photos = self.reader.read(np.array(places, np.int64))
        found = []
        for place, photo in zip(places, photos, strict=True):
            shard, key = self.manifest.where(place)
            found.append(
                EncodedPhoto(key, shard, photo.data, "" if photo.intact else "its bytes are not those indexed")
            )
        return found

    def labels(self, places: Sequence[int]) -> list[dict[str, str]]:
        """The folder in each sample's key, and of local shards the labels in its json.

        Raises DataError when a shard cannot be read.
        """
        local = not is_remote(str(self.manifest.folder))
        return [
            _folder_of(self.manifest.where(place)[1])
            | (_labels_in(read_members(self.manifest, place)) if local else {})
            for place in places
        ]

    def digest(self) -> str:
        """A digest of the length and of the shards' names, sizes and checksums."""
        names = "\n".join(f"{shard.name} {shard.samples} {shard.sha256}" for shard in self.manifest.shards)
        return hashlib.blake2b(f"{self.count}\n{names}".encode(), digest_size=16).hexdigest()

    def describe(self) -> dict[str, object]:
        """The kind of the list, its folder and its length."""
        return {"kind": "shards", "folder": str(self.manifest.folder), "photos": len(self)}


def _folder_of(key: str) -> dict[str, str]:
    folder, found, _ = key.rpartition("/")
    return {"folder": folder} if found else {}


def _labels_in(members: Mapping[str, bytes]) -> dict[str, str]:
    """The labels in a sample's json that are one word or number each, attributes last; none if it cannot be read."""
    known = parse_object(members.get("json", b"{}")) or {}
    attributes = known.pop("attributes", None)
    if isinstance(known.get("identity"), int):
        known["identity"] = f"person {known['identity']}"  # a name, though it is a number
    found = known | (attributes if isinstance(attributes, dict) else {})
    words = {True: "yes", False: "no"}
    return {
        name: words[value] if isinstance(value, bool) else str(value)
        for name, value in found.items()
        if isinstance(value, str | int | float)
    }


def open_shards(given: str, limit: int | None = None) -> Shards | None:
    """Shards when `given` is a folder with a manifest or a URL; None when it is something else.

    Raises DataError for a damaged manifest, a missing shard, or tars without a manifest.
    """
    place = Path(given)
    if is_remote(given) or exists(place / MANIFEST):
        return Shards(load_manifest(given), limit)
    if is_folder(place) and any(paths_in(place, "*.tar")):
        raise DataError(f"{given} holds tars and no {MANIFEST}: run fra-dist shards index {given} first")
    return None


def no_photos(given: str) -> DataError:
    """The error about a name that leads neither to photos nor to shards."""
    return DataError(f"--data {given} holds no photos and no shards")


def batches(source: PhotoList, groups: Iterable[Sequence[int]], size: int) -> Iterator[list[DecodedPhoto]]:
    """The photos at the places of each group, decoded in threads a few groups ahead.

    size: side S of the decoded squares, in pixels.
    """
    with ThreadPoolExecutor(1) as reading, ThreadPoolExecutor(THREADS) as decoding:

        def load(some: Sequence[int]) -> list[DecodedPhoto]:
            stored = source.read(some)
            return list(decoding.map(lambda pair: decoded(pair[0], pair[1], size), zip(some, stored, strict=True)))

        waiting: deque[Future[list[DecodedPhoto]]] = deque()
        for group in groups:
            waiting.append(reading.submit(load, group))
            if len(waiting) > AHEAD:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


def decoded(place: int, stored: EncodedPhoto, size: int) -> DecodedPhoto:
    """The photo decoded, its middle square scaled to (size, size, 3); `fault` says why if it could not be."""
    if stored.fault:
        return DecodedPhoto(place, stored.key, stored.shard, None, fault=stored.fault)
    try:
        pixels = decode_verified(stored.data)
        height, width = pixels.shape[:2]
        photo = np.repeat(pixels[..., None], 3, axis=2) if pixels.ndim == 2 else pixels
        square = cut_photo(photo, square_of(MIDDLE, height, width), size)
    except (BadImage, NoFace) as error:
        return DecodedPhoto(place, stored.key, stored.shard, None, fault=str(error) or "cannot be read")
    return DecodedPhoto(place, stored.key, stored.shard, square, height, width)
