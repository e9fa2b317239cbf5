"""Photos in parquet files, as they are published for `datasets` and by img2dataset: a column of encoded images.

The column is a struct with `bytes` and `path`, or binary; names come from `path` or from a column of names, and are row
numbers where those are missing or not unique. A row group is decompressed as a whole, so photos of one group stay
together when a source is shuffled.
"""

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fra_dist.data.decoding.images import BadImage
from fra_dist.data.making.listing import ListedPhoto, Listing
from fra_dist.data.order.counter_random import permute
from fra_dist.errors import DataError
from fra_dist.files import failure
from fra_dist.stand_ins import stand_in_at

SUFFIX = ".parquet"
"""How the names of parquet files end."""
_IMAGES = ("image", "img", "jpg", "jpeg", "png", "webp", "photo", "picture", "image_bytes", "bytes", "content")
_NAMES = ("path", "file_name", "filename", "name", "__key__", "key", "id")


def list_parquet(root: Path, files: Sequence[Path]) -> Listing:
    """Every photo of some parquet files, in the order of files and rows; `root` is the source that the user named.

    Their sizes are not known before they are read. Raises DataError when a file cannot be read or has no images.
    """
    photos = []
    for file in files:
        place = file.relative_to(root).as_posix() if file != root else ""
        stem = place.removesuffix(SUFFIX)
        for row, name in enumerate(_names(file)):
            photos.append(ListedPhoto(f"{stem}/{name}" if stem else name, 0, row, (), place))
    return Listing(photos, [], 0)


def order_by_groups(root: Path, photos: Sequence[ListedPhoto], seed: ArrayLike) -> NDArray[np.int64]:
    """A shuffled order of the photos of `list_parquet` in which those of one row group stay together."""
    bounds, start = [], 0
    for place in dict.fromkeys(photo.tar for photo in photos):
        for rows in _group_sizes(root / place):
            bounds.append((start, start + rows))
            start += rows
    shuffled = permute(np.arange(len(bounds)), len(bounds), seed)
    return np.concatenate([np.arange(*bounds[int(group)]) for group in shuffled] or [np.zeros(0, np.int64)])


def row_bytes(file: str, row: int) -> bytes:
    """The encoded photo of a row. Raises BadImage when the row holds none, DataError when the file cannot be read."""
    first = group = 0
    for rows in _group_sizes(Path(file)):
        if row < first + rows:
            break
        first, group = first + rows, group + 1
    value = _group(file, group)[row - first].as_py()
    data = value.get("bytes") if isinstance(value, dict) else value
    if not data:
        raise BadImage("no image in its row")
    return bytes(data)


@lru_cache(maxsize=1)
def _group(file: str, group: int) -> Any:
    with _opened(Path(file)) as opened:
        column = _image_column(opened.schema_arrow, Path(file))
        return opened.read_row_group(group, columns=[column]).column(0)


@lru_cache(maxsize=4096)
def _group_sizes(file: Path) -> tuple[int, ...]:
    with _opened(file) as opened:
        return tuple(opened.metadata.row_group(n).num_rows for n in range(opened.num_row_groups))


def _names(file: Path) -> list[str]:
    with _opened(file) as opened:
        schema, count = opened.schema_arrow, opened.metadata.num_rows
        image = _image_column(schema, file)
        inside = image.removesuffix(".bytes") + ".path" if image.endswith(".bytes") else ""
        found = []
        for column in (inside, *_NAMES):
            if (column == inside and inside) or column in schema.names:
                try:
                    values = opened.read(columns=[column]).column(0).to_pylist()
                except (KeyError, IndexError, ValueError):
                    continue
                found = [value.get("path") if isinstance(value, dict) else value for value in values]
                if None not in found and len(set(found)) == count:
                    return [str(name).lstrip("/") for name in found]
    return [f"{row:08d}" for row in range(count)]


def _image_column(schema: Any, file: Path) -> str:
    """The path of the column of encoded images. Raises DataError when there is none."""
    import pyarrow.types as kinds

    for name in sorted(schema.names, key=lambda name: _IMAGES.index(name) if name in _IMAGES else len(_IMAGES)):
        kind = schema.field(name).type
        if kinds.is_struct(kind) and kind.get_field_index("bytes") >= 0:
            return f"{name}.bytes"
        if kinds.is_binary(kind) or kinds.is_large_binary(kind):
            return str(name)
    raise DataError(f"{file} has no column of encoded images, but {', '.join(schema.names)[:120]}")


def _opened(file: Path) -> Any:
    try:
        from pyarrow import ArrowException
        from pyarrow.parquet import ParquetFile
    except ImportError:
        raise DataError(f"{file}: parquet is read with pyarrow: pip install 'fra-dist[parquet]'") from None
    try:
        return ParquetFile(file)
    except ArrowException as error:
        if (found := stand_in_at(file)) is not None:
            raise DataError(f"{file} is {found}") from None
        raise DataError(f"{file} is no whole parquet file: {' '.join(str(error).split())[:120]}") from None
    except OSError as error:
        raise failure(error, f"cannot read {file}", DataError) from None
