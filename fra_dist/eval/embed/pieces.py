"""What is done so far, in parts that are whole or absent, so that a stopped command resumes where it was.

OUT/.parts/plan.json         which network, photos and arrays the parts are of
          000003/            photos 3·PART to 4·PART of the list
            pooled.npy, ...  arrays of the photos that could be decoded
            rows.jsonl       their keys; bad.jsonl: the others, and why
"""

import json
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fra_dist import files
from fra_dist.errors import DataError
from fra_dist.files import paths_in

PART = 1024
"""How many photos of the list make a part."""
FOLDER = ".parts"


@dataclass(frozen=True)
class EmbeddedPhoto:
    """The row of one embedded photo: its place in the list, its name, and its size in pixels."""

    place: int
    """Place of the photo in the list."""
    key: str
    """Path of the photo below the folder, or its key in a shard."""
    shard: str
    """Name of the shard; empty for files."""
    height: int
    """Height of the upright photo in pixels."""
    width: int
    """Width of the upright photo in pixels."""


class Parts:
    """The parts of one plan, below OUT.

    Raises DataError when OUT cannot be written, or holds the parts of another plan.
    """

    def __init__(self, out: Path, plan: Mapping[str, Any], total: int, fresh: bool = False) -> None:
        self.out, self.folder = out, out / FOLDER
        self.count = -(-total // PART)
        self.total = total
        try:
            if fresh:
                shutil.rmtree(self.folder, ignore_errors=True)
                (out / "manifest.json").unlink(missing_ok=True)  # what is there is about to be replaced
            files.make_folder(self.folder)
            kept = self.folder / "plan.json"
            before = files.read_object(kept)
            if before is None:
                if files.exists(kept):
                    raise DataError(f"{kept} is damaged: begin again with --fresh, or give another --out")
                files.write_object(kept, plan, indent=1)
        except OSError as error:
            raise files.failure(error, f"cannot write to {out} (or give another --out)", DataError) from None
        different = [name for name in plan if before is not None and before.get(name) != plan[name]]
        if different:
            raise DataError(
                f"{out} holds the beginning of other embeddings ({different[0]} differs): give another --out, or "
                "--fresh to begin again"
            )

    def missing(self) -> list[int]:
        """Numbers of the parts, from 0, that have not been written yet."""
        return [number for number in range(self.count) if not files.exists(self._path(number))]

    def places(self, number: int) -> range:
        """The places of the list, PART of them and fewer in the last one, that belong to part `number`."""
        return range(number * PART, min((number + 1) * PART, self.total))

    def write(
        self,
        number: int,
        arrays: Mapping[str, NDArray[np.floating]],
        rows: Sequence[EmbeddedPhoto],
        bad: Sequence[Mapping[str, Any]],
    ) -> None:
        """Write a part: its arrays, the rows of its photos, and the photos that could not be decoded.

        Raises DataError when the disk refuses; the part is then absent.
        """
        partial = self.folder / f".partial-{number:06d}-{os.getpid()}"
        try:
            partial.mkdir()
            for name, array in arrays.items():
                np.save(partial / f"{name}.npy", array)
            for name, lines in (("rows", [row.__dict__ for row in rows]), ("bad", bad)):
                text = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
                (partial / f"{name}.jsonl").write_text(text, encoding="utf-8")
            partial.rename(self._path(number))  # not `whole_file`: a part is a folder
        except OSError as error:
            raise files.failure(error, f"cannot write to {self.out}", DataError) from None
        finally:
            shutil.rmtree(partial, ignore_errors=True)

    def rows(self) -> Iterator[EmbeddedPhoto]:
        """The embedded photos of all parts, in the order of the list."""
        for line in self._lines("rows"):
            yield EmbeddedPhoto(**line)

    def bad(self) -> Iterator[dict[str, Any]]:
        """The photos that could not be decoded, each as an object with the reason."""
        return self._lines("bad")

    def names(self) -> list[str]:
        """Names of the arrays; none when no photo could be decoded."""
        for number in range(self.count):
            found = sorted(path.stem for path in paths_in(self._path(number), "*.npy"))
            if found:
                return found
        return []

    def blocks(self, name: str) -> Iterator[NDArray[np.floating]]:
        """The array's rows (n, ...) of each part that has any, mapped from the disk."""
        for number in range(self.count):
            path = self._path(number) / f"{name}.npy"
            if files.exists(path):
                yield np.load(path, mmap_mode="r", allow_pickle=False)

    def shape(self, name: str) -> tuple[int, ...]:
        """Shape of the whole array, all parts together."""
        sizes = [block.shape for block in self.blocks(name)]
        return (sum(size[0] for size in sizes), *sizes[0][1:])

    def remove(self) -> None:
        """Remove the parts and the plan, once the result is written."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _lines(self, name: str) -> Iterator[dict[str, Any]]:
        for number in range(self.count):
            with (self._path(number) / f"{name}.jsonl").open(encoding="utf-8") as stream:
                for line in stream:
                    yield json.loads(line)

    def _path(self, number: int) -> Path:
        return self.folder / f"{number:06d}"
