"""What is done so far, in pieces that are whole or absent, so that a stopped command goes on where it was.

OUT/.parts/plan.json         of which network, which photos, which arrays
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

from fra_dist.errors import DataError

PART = 1024
"""Photos of the list in a part."""
FOLDER = ".parts"


@dataclass(frozen=True)
class Row:
    """A photo that has been embedded: its place in the list, its names, its upright size."""

    place: int
    key: str
    shard: str
    height: int
    width: int


class Parts:
    """Of one plan. Raises DataError when OUT cannot be written, or holds something else."""

    def __init__(self, out: Path, plan: Mapping[str, Any], total: int, fresh: bool = False) -> None:
        self.out, self.folder = out, out / FOLDER
        self.count = -(-total // PART)
        self.total = total
        try:
            if fresh:
                shutil.rmtree(self.folder, ignore_errors=True)
                (out / "manifest.json").unlink(missing_ok=True)  # what is there is about to be replaced
            self.folder.mkdir(parents=True, exist_ok=True)
            kept = self.folder / "plan.json"
            before = json.loads(kept.read_text()) if kept.exists() else None
            if before is None:
                _replace(kept, json.dumps(plan, indent=1))
        except (OSError, ValueError) as error:
            raise DataError(f"cannot write to {out}: {error}; give another --out") from None
        different = [name for name in plan if before is not None and before.get(name) != plan[name]]
        if different:
            raise DataError(
                f"{out} holds the beginning of other embeddings ({different[0]} differs): give another --out, or "
                "--fresh to begin again"
            )

    def missing(self) -> list[int]:
        return [number for number in range(self.count) if not self._path(number).exists()]

    def places(self, number: int) -> range:
        """Of the list, that belong to a part."""
        return range(number * PART, min((number + 1) * PART, self.total))

    def write(
        self,
        number: int,
        arrays: Mapping[str, NDArray[np.floating]],
        rows: Sequence[Row],
        bad: Sequence[Mapping[str, Any]],
    ) -> None:
        """Raises DataError when the disk refuses; the part is then absent."""
        partial = self.folder / f".partial-{number:06d}-{os.getpid()}"
        try:
            partial.mkdir()
            for name, array in arrays.items():
                np.save(partial / f"{name}.npy", array)
            for name, lines in (("rows", [row.__dict__ for row in rows]), ("bad", bad)):
                text = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
                (partial / f"{name}.jsonl").write_text(text, encoding="utf-8")
            partial.rename(self._path(number))
        except OSError as error:
            raise DataError(
                f"cannot write to {self.out}: {error.strerror}; make room and start the same command again"
            ) from None
        finally:
            shutil.rmtree(partial, ignore_errors=True)

    def rows(self) -> Iterator[Row]:
        """In the order of the list."""
        for line in self._lines("rows"):
            yield Row(**line)

    def bad(self) -> Iterator[dict[str, Any]]:
        return self._lines("bad")

    def names(self) -> list[str]:
        """Of the arrays; none when no photo could be decoded."""
        for number in range(self.count):
            found = sorted(path.stem for path in self._path(number).glob("*.npy"))
            if found:
                return found
        return []

    def blocks(self, name: str) -> Iterator[NDArray[np.floating]]:
        """(n, ...) of each part that has any, mapped from the disk."""
        for number in range(self.count):
            path = self._path(number) / f"{name}.npy"
            if path.exists():
                yield np.load(path, mmap_mode="r", allow_pickle=False)

    def shape(self, name: str) -> tuple[int, ...]:
        """Of the whole array."""
        sizes = [block.shape for block in self.blocks(name)]
        return (sum(size[0] for size in sizes), *sizes[0][1:])

    def remove(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)

    def _lines(self, name: str) -> Iterator[dict[str, Any]]:
        for number in range(self.count):
            with (self._path(number) / f"{name}.jsonl").open(encoding="utf-8") as stream:
                for line in stream:
                    yield json.loads(line)

    def _path(self, number: int) -> Path:
        return self.folder / f"{number:06d}"


def _replace(path: Path, text: str) -> None:
    partial = path.with_name(f".{path.name}-{os.getpid()}")
    partial.write_text(text, encoding="utf-8")
    partial.replace(path)
