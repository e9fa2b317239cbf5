"""Checks that the files of a folder of shards are there, and reads the manifest that names them."""

import os
from collections.abc import Sequence
from pathlib import Path

from fra_dist.data.shards.index import ShardEntry
from fra_dist.data.stores.remote_folder import RemoteFile, RemoteFolder
from fra_dist.errors import DataError
from fra_dist.files import ABSENT, exists, failure, is_folder, patiently, raw_bytes
from fra_dist.stand_ins import stand_in_at


def check_shard_files(folder: Path | RemoteFolder, shards: Sequence[ShardEntry], indices: bool) -> None:
    """Raise DataError unless the files that a manifest names are there.

    In a local folder every tar must be there with its size, and the indices too if `indices` is set. In a store that
    lists its files the same holds for that list. In any other store only the last byte of the largest shard is read.
    """
    if isinstance(folder, RemoteFolder):
        _check_remote(folder, shards, indices)
    else:
        _check_local(folder, shards, indices)


def first_bytes(folder: Path | RemoteFolder, name: str) -> bytes:
    """The contents of the manifest, the file `name` of the folder.

    Raises DataError when it is not there, with advice, or cannot be read.
    """
    if isinstance(folder, RemoteFolder):
        return folder.first_file(name)
    try:
        return raw_bytes(folder / name)
    except OSError as error:
        if error.errno not in ABSENT:
            raise failure(error, f"cannot read {folder / name}", DataError) from None
        if exists(folder) and not is_folder(folder):
            raise DataError(f"cannot read {folder / name}: {folder} is a file, not a folder of shards") from None
        what = f"has no {name}" if is_folder(folder) else "does not exist"
        advice = "write shards with fra-dist shards make, or index existing ones with fra-dist shards index"
        raise DataError(f"folder {folder} {what}: {advice}") from None


def _check_local(folder: Path, shards: Sequence[ShardEntry], indices: bool) -> None:
    advice = f"restore it, or run: fra-dist shards index {folder}"
    for shard in shards:
        path = folder / shard.name
        try:
            size = patiently(lambda path=path: os.stat(path)).st_size  # type: ignore[misc]
        except OSError as error:
            advised = f"cannot read shard {path} (restore it, or index the folder again)"
            raise failure(error, advised, DataError) from None
        if size != shard.bytes:
            cut = f"has {size} bytes but {shard.bytes} in the manifest, so it was cut or changed: {advice}"
            found = stand_in_at(path)
            raise DataError(f"shard {path} {cut if found is None else f'is {found}'}")
        if indices and shard.samples and not (os.access(path, os.R_OK) and os.access(folder / shard.index, os.R_OK)):
            unreadable = path if not os.access(path, os.R_OK) else folder / shard.index
            raise DataError(f"{unreadable} is missing or unreadable: {advice}")


def _check_remote(folder: RemoteFolder, shards: Sequence[ShardEntry], indices: bool) -> None:
    sizes = folder.sizes()
    if sizes is None:
        last = max(shards, key=lambda shard: shard.bytes)
        RemoteFile(folder, last.name).read(1, last.bytes - 1)
        return
    for shard in shards:
        size = sizes.get(shard.name)
        if size != shard.bytes:
            what = "is not there" if size is None else f"has {size} bytes but {shard.bytes} in the manifest"
            raise DataError(f"shard {folder / shard.name} {what}: upload the folder again")
        if indices and shard.index not in sizes:
            raise DataError(f"index {folder / shard.index} is not there: upload the folder again")
