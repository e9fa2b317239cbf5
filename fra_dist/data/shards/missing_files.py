"""Are the files of a folder of shards there?"""

import os
from collections.abc import Sequence
from pathlib import Path

from fra_dist.data.shards.index import ShardEntry
from fra_dist.data.stores.remote_folder import RemoteFile, RemoteFolder
from fra_dist.errors import DataError


def check_shard_files(folder: Path | RemoteFolder, shards: Sequence[ShardEntry], indices: bool) -> None:
    """Raises DataError unless the files are there that a manifest names.

    In a folder: every tar with its size, and the indices if asked. In a store that lists: the same, from its list. In
    another: the last byte of the largest shard.
    """
    if isinstance(folder, RemoteFolder):
        _check_remote(folder, shards, indices)
    else:
        _check_local(folder, shards, indices)


def first_bytes(folder: Path | RemoteFolder, name: str) -> bytes:
    """The manifest of that name. Raises DataError."""
    if isinstance(folder, RemoteFolder):
        return folder.first_file(name)
    try:
        return (folder / name).read_bytes()
    except FileNotFoundError:
        what = f"has no {name}" if folder.is_dir() else "does not exist"
        advice = "write shards with fra-dist shards make, or index existing ones with fra-dist shards index"
        raise DataError(f"folder {folder} {what}: {advice}") from None
    except OSError as error:
        raise DataError(f"cannot read {folder / name}: {error.strerror}") from None


def _check_local(folder: Path, shards: Sequence[ShardEntry], indices: bool) -> None:
    advice = f"restore it, or run: fra-dist shards index {folder}"
    for shard in shards:
        path = folder / shard.name
        try:
            size = os.stat(path).st_size
        except OSError as error:
            raise DataError(
                f"cannot read shard {path}: {error.strerror}; restore it, or index the folder again"
            ) from None
        if size != shard.bytes:
            raise DataError(
                f"shard {path} has {size} bytes but {shard.bytes} in the manifest, so it was cut or changed: {advice}"
            )
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
