"""Who is near whom: a two-dimensional map and nearest neighbours, from blocks of rows (n, C) on the disk.

Neither holds more in memory than a block, a few sampled rows and two numbers of each row. N rows, C numbers in each.
"""

from collections.abc import Callable, Iterable

import numpy as np
from numpy.typing import NDArray

Blocks = Callable[[], Iterable[NDArray[np.floating]]]
"""Gives the rows block by block, from the first on at every call."""
Floats = NDArray[np.float64]


def principal_plane(blocks: Blocks) -> tuple[Floats, Floats]:
    """Places (N, 2) of the rows along the two directions of largest variance, and (2,) their shares of the variance.

    They come from the covariance, added up in float64; signs are chosen so that the largest entry of a direction is
    positive.
    """
    count, total, square = 0, np.zeros(0), np.zeros(0)
    for block in blocks():
        rows = np.asarray(block, np.float64)
        if not count:
            total, square = np.zeros(rows.shape[1]), np.zeros((rows.shape[1],) * 2)
        count, total, square = count + len(rows), total + rows.sum(0), square + rows.T @ rows
    mean = total / max(count, 1)
    values, vectors = np.linalg.eigh(square / max(count, 1) - np.outer(mean, mean))
    plane = vectors[:, ::-1][:, :2]
    plane = plane * np.sign(plane[np.abs(plane).argmax(0), range(plane.shape[1])])
    places = np.concatenate([(np.asarray(block, np.float64) - mean) @ plane for block in blocks()])
    if places.shape[1] < 2:  # a single number in each row
        places = np.pad(places, ((0, 0), (0, 1)))
    shares = values[::-1][:2] / max(float(values.sum()), 1e-12)
    return places, np.pad(np.maximum(shares, 0), (0, 2 - len(shares)))


def scattered(rows: NDArray[np.floating], seed: int = 0) -> Floats:
    """t-SNE (van der Maaten and Hinton 2008) of a few rows: (n, C) -> (n, 2). It starts from the principal plane."""
    from sklearn.manifold import TSNE

    perplexity = min(30.0, max(1.0, (len(rows) - 1) / 3))
    return TSNE(2, perplexity=perplexity, init="pca", random_state=seed % 2**32).fit_transform(
        np.asarray(rows, np.float32)
    )


def take(blocks: Blocks, places: NDArray[np.int64]) -> NDArray[np.float32]:
    """The rows at some places, (n, C), in the order of `places`."""
    order = np.argsort(places, kind="stable")
    rising, found, start = places[order], [], 0
    for block in blocks():
        here = rising[(rising >= start) & (rising < start + len(block))] - start
        found.append(np.asarray(block[here], np.float32))
        start += len(block)
    return np.concatenate(found)[np.argsort(order)]


def nearest_rows(blocks: Blocks, queries: NDArray[np.int64], count: int) -> tuple[NDArray[np.int64], Floats]:
    """The rows nearest to each query, (n, count), in cosine about the mean, and their cosines, (n, count).

    The query itself is left out. There are fewer columns when there are fewer rows.
    """
    total, number = np.zeros(0), 0
    for block in blocks():
        part = np.asarray(block, np.float64).sum(0)
        total, number = (total + part if number else part), number + len(block)
    mean = total / max(number, 1)
    asked = _unit(take(blocks, queries), mean)
    best = np.full((len(queries), 0), -np.inf)
    rows = np.zeros((len(queries), 0), np.int64)
    start = 0
    for block in blocks():
        cosine = asked @ _unit(block, mean).T
        own = np.arange(start, start + len(block))
        cosine[own[None] == queries[:, None]] = -np.inf
        best, rows = np.concatenate([best, cosine], 1), np.concatenate([rows, np.tile(own, (len(queries), 1))], 1)
        order = np.argsort(-best, axis=1, kind="stable")[:, :count]
        best, rows = np.take_along_axis(best, order, 1), np.take_along_axis(rows, order, 1)
        start += len(block)
    kept = min(count, max(number - 1, 0))
    return rows[:, :kept], best[:, :kept]


def _unit(rows: NDArray[np.floating], mean: Floats) -> Floats:
    centred = np.asarray(rows, np.float64) - mean
    return centred / np.maximum(np.linalg.norm(centred, axis=1, keepdims=True), 1e-12)
