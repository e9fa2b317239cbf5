"""The result of an embedding: arrays by row, the key of each row, what was left out, and a manifest.

OUT/manifest.json       network and digest of its weights, photos, arrays, counts, versions; written last
    rows.csv            row, key, shard, height, width          (with parquet: columns of the table)
    pooled.npy, ...     (rows, ...)                             (with parquet: embeddings.parquet)
    quarantine.jsonl    photos that could not be decoded, and why

Every file appears whole, under its name only when all of it is written. Memory does not grow with the photos.
"""

import csv
import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import numpy as np

from fra_dist.errors import ConfigError, DataError
from fra_dist.eval.embed.pieces import Parts
from fra_dist.files import failure, whole_file

FORMAT = 1
MANIFEST, TABLE, QUARANTINE, PARQUET = "manifest.json", "rows.csv", "quarantine.jsonl", "embeddings.parquet"
COLUMNS = ("key", "shard", "height", "width")


def check_format(name: str) -> None:
    """Check that files of this format can be written. Raises ConfigError for parquet without pyarrow."""
    if name == "parquet":
        try:
            import pyarrow  # noqa: F401
        except ImportError:
            raise ConfigError("--format parquet needs pyarrow: pip install 'fra-dist[parquet]', or use npy") from None


def write_embeddings(parts: Parts, kind: str) -> dict[str, dict[str, Any]]:
    """Join the parts as npy or parquet. Returns the shape and type of each array, for the manifest.

    Raises DataError when the disk refuses.
    """
    arrays = {name: parts.shape(name) for name in parts.names()}
    types = {name: str(next(parts.blocks(name)).dtype) for name in arrays}
    try:
        if kind == "parquet":
            _write_parquet(parts, parts.out / PARQUET, arrays)
        else:
            for name, shape in arrays.items():
                _join(parts, name, shape, np.dtype(types[name]))
            _write_rows(parts)
        with open_whole(parts.out / QUARANTINE, "w") as stream:
            stream.writelines(json.dumps(row) + "\n" for row in parts.bad())
    except OSError as error:
        raise failure(error, f"cannot write to {parts.out}", DataError) from None
    return {name: {"shape": list(shape), "dtype": types[name]} for name, shape in arrays.items()}


def write_embedding_manifest(out: Path, facts: Mapping[str, Any]) -> None:
    """Write OUT/manifest.json with these facts. Raises DataError when the disk refuses."""
    try:
        with open_whole(out / MANIFEST, "w") as stream:
            json.dump({"format": FORMAT, **facts}, stream, indent=1, ensure_ascii=False)
            stream.write("\n")
    except OSError as error:
        raise failure(error, f"cannot write {out / MANIFEST}", DataError) from None


@contextmanager
def open_whole(path: Path, mode: str) -> Iterator[IO[Any]]:
    """A file that gets its name when the block has ended without an exception, and leaves nothing otherwise."""
    text: dict[str, Any] = {} if "b" in mode else {"encoding": "utf-8", "newline": ""}
    with whole_file(path) as partial, partial.open(mode, **text) as stream:
        yield stream


def _join(parts: Parts, name: str, shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
    with open_whole(parts.out / f"{name}.npy", "wb") as stream:
        header = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(stream, header)
        for block in parts.blocks(name):
            stream.write(np.ascontiguousarray(block).data)


def _write_rows(parts: Parts) -> None:
    with open_whole(parts.out / TABLE, "w") as stream:
        table = csv.writer(stream)
        table.writerow(("row", *COLUMNS))
        for number, row in enumerate(parts.rows()):
            table.writerow((number, *(getattr(row, name) for name in COLUMNS)))


def _write_parquet(parts: Parts, path: Path, arrays: Mapping[str, tuple[int, ...]]) -> None:
    """One row group a part; arrays of several dimensions are lists of numbers, their shapes are in the metadata."""
    import pyarrow
    from pyarrow import parquet

    rows = parts.rows()
    blocks = {name: parts.blocks(name) for name in arrays}
    first = {name: next(parts.blocks(name)) for name in arrays}
    lists = {
        name: pyarrow.list_(pyarrow.from_numpy_dtype(first[name].dtype), int(np.prod(shape[1:])))
        for name, shape in arrays.items()
    }
    plain: dict[str, Callable[[], Any]] = {
        "key": pyarrow.string, "shard": pyarrow.string, "height": pyarrow.int32, "width": pyarrow.int32
    }  # fmt: skip
    fields = [(name, kind()) for name, kind in plain.items()] + list(lists.items())
    shapes = json.dumps({name: list(shape[1:]) for name, shape in arrays.items()})
    schema = pyarrow.schema(fields).with_metadata({"fra_dist_shapes": shapes})
    with open_whole(path, "wb") as stream, parquet.ParquetWriter(stream, schema) as writer:
        for some in zip(*blocks.values(), strict=True):
            taken = [next(rows) for _ in range(len(some[0]))]
            columns = [pyarrow.array([getattr(row, name) for row in taken], kind()) for name, kind in plain.items()]
            for name, block in zip(arrays, some, strict=True):
                flat = pyarrow.array(np.ascontiguousarray(block).reshape(-1))
                columns.append(pyarrow.FixedSizeListArray.from_arrays(flat, type=lists[name]))
            writer.write_table(pyarrow.Table.from_arrays(columns, schema=schema))
