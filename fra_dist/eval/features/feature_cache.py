"""Arrays kept on disk under the name of what they were made from, mapped into memory by those who read them.

    CACHE/photos-DIGEST/photos.npy           faces cut from their photos
    CACHE/features-DIGEST/pooled.npy, ...    a network's features of them

A folder appears under its name only when it is whole. Nothing is ever deleted: remove folders as you like.
"""

import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fra_dist.errors import DataError
from fra_dist.files import failure


class Cache:
    """A folder of such arrays. With None as its folder, nothing is kept."""

    def __init__(self, folder: str | Path | None) -> None:
        self.folder = Path(folder) if folder is not None else None

    def load(self, name: str, part: str) -> NDArray[Any] | None:
        """The array `part` of the folder `name`, mapped read-only; None when it is not there or cannot be read."""
        if self.folder is None:
            return None
        try:
            return np.load(self.folder / name / f"{part}.npy", mmap_mode="r", allow_pickle=False)
        except (OSError, ValueError):
            return None

    @contextmanager
    def writer(self, name: str, parts: Mapping[str, tuple[tuple[int, ...], np.dtype[Any]]]) -> Iterator[dict[str, Any]]:
        """Arrays to fill, by their shapes and types; they are kept when the block ends without an exception.

        Raises DataError when the cache cannot be written.
        """
        if self.folder is None:
            yield {part: np.empty(shape, dtype) for part, (shape, dtype) in parts.items()}
            return
        partial = self.folder / f".{os.getpid()}-{name}"
        try:
            partial.mkdir(parents=True, exist_ok=True)
            arrays = {part: _new_array(partial / f"{part}.npy", *kind) for part, kind in parts.items()}
            yield arrays
            for array in arrays.values():
                array.flush()
            shutil.rmtree(self.folder / name, ignore_errors=True)
            partial.rename(self.folder / name)  # not `whole_file`: an entry is a folder, and can be computed again
        except OSError as error:
            what = f"cannot write to the cache {self.folder} (or give another --cache)"
            raise failure(error, what, DataError) from None
        finally:
            shutil.rmtree(partial, ignore_errors=True)


def _new_array(path: Path, shape: tuple[int, ...], dtype: np.dtype[Any]) -> np.memmap[Any, np.dtype[Any]]:
    """A new file mapped into memory. Raises OSError when the disk has no room for all of it.

    Its blocks are allocated here: to write where a full disk has none would kill the process (SIGBUS).
    """
    array = np.lib.format.open_memmap(path, mode="w+", dtype=dtype, shape=shape)
    with open(path, "r+b") as stream:
        os.posix_fallocate(stream.fileno(), 0, os.fstat(stream.fileno()).st_size)
    return array
