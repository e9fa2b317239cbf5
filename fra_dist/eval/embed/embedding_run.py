"""The loop of `fra-dist embed`: all photos of a list through a network, part by part."""

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from fra_dist.eval.embed.compute import compute
from fra_dist.eval.embed.photo_stream import DecodedPhoto, PhotoList, batches
from fra_dist.eval.embed.pieces import EmbeddedPhoto, Parts
from fra_dist.eval.features.encoder import Encoder


def embed(
    encoder: Encoder,
    source: PhotoList,
    parts: Parts,
    what: Sequence[str],
    *,
    dtype: np.dtype[np.floating],
    batch: int,
    tell: Callable[[int, int], None],
) -> None:
    """Embed the photos of the parts that are missing. `tell(photos, bad)` is called after each batch.

    Raises DataError when a shard cannot be read at all, or the disk refuses; what was done before stays.
    """
    numbers = [
        (number, places[start : start + batch])
        for number in parts.missing()
        for places in (parts.places(number),)
        for start in range(0, len(places), batch)
    ]
    done: list[DecodedPhoto] = []
    arrays: list[dict[str, NDArray[np.floating]]] = []
    for (number, places), found in zip(
        numbers, batches(source, (places for _, places in numbers), encoder.size), strict=True
    ):
        good = [one.square for one in found if one.square is not None]
        if good:
            arrays.append(compute(encoder, np.stack(good), what, dtype))
        done += [one._replace(square=None) for one in found]
        tell(len(found), len(found) - len(good))
        if places[-1] == parts.places(number)[-1]:
            _finish(parts, number, done, arrays)
            done, arrays = [], []


def _finish(
    parts: Parts, number: int, done: Sequence[DecodedPhoto], arrays: Sequence[dict[str, NDArray[np.floating]]]
) -> None:
    rows = [EmbeddedPhoto(one.place, one.key, one.shard, one.height, one.width) for one in done if not one.fault]
    bad = [{"key": one.key, "shard": one.shard, "reason": one.fault} for one in done if one.fault]
    names = arrays[0] if arrays else {}
    parts.write(number, {name: np.concatenate([some[name] for some in arrays]) for name in names}, rows, bad)
