"""Statistics of a set of photos that are the same in any order of addition: exact sums of integers, and counts."""

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fra_dist.data.shards.index import GREY, Rows

Moments = NDArray[np.int64]
"""(7,): number of pixels, their sums for R, G and B, and the sums of their squares for R, G and B."""

GRID = 64
"""Most rows and columns that one photo contributes, evenly spaced, so that large photos weigh as much as small ones."""

_SHARES = {"min": 0.0, "1%": 0.01, "10%": 0.1, "50%": 0.5, "90%": 0.9, "99%": 0.99, "max": 1.0}


def pixel_moments(pixels: NDArray[np.uint8]) -> Moments:
    """Moments of the pixels of one photo: (H, W) grey, or (H, W, 3) RGB, uint8."""
    down, across = (-(-side // GRID) for side in pixels.shape[:2])
    grid = pixels[::down, ::across].astype(np.int64).reshape(-1, *pixels.shape[2:])
    sums, squares = grid.sum(0), np.square(grid).sum(0)
    return np.concatenate([[len(grid)], np.broadcast_to(sums, 3), np.broadcast_to(squares, 3)]).astype(np.int64)


def colour_stats(total: Moments) -> dict[str, list[float]]:
    """Mean and standard deviation (`mean`, `std`) of each channel in [0, 1], rounded to 6 places.

    total: moments summed over the photos.
    """
    count = max(1, int(total[0]))
    mean = total[1:4] / count
    spread = np.sqrt(np.maximum(total[4:7] / count - mean**2, 0.0))
    return {"mean": [round(float(m) / 255, 6) for m in mean], "std": [round(float(s) / 255, 6) for s in spread]}


def size_stats(indexes: Iterable[Rows]) -> dict[str, Any]:
    """Quantiles of height, width and bytes over the rows of all indexes, and how many photos are grey.

    Memory grows with the number of distinct values only.
    """
    counts: dict[str, Counter[int]] = {"height": Counter(), "width": Counter(), "length": Counter()}
    grey = 0
    for rows in indexes:
        grey += int(np.count_nonzero(rows["flags"] & GREY))
        for name, counter in counts.items():
            values, times = np.unique(rows[name], return_counts=True)
            counter.update(dict(zip(values.tolist(), times.tolist(), strict=True)))
    out: dict[str, Any] = {"grey": grey}
    for name, counter in counts.items():
        out["bytes" if name == "length" else name] = _quantiles(counter)
    return out


def stats_misfit(stats: Mapping[str, Any]) -> str | None:
    """Name of the first of a manifest's statistics that has the wrong type, or None. Any of them may be absent."""
    for name, value in stats.items():
        if name in ("mean", "std"):
            fits = isinstance(value, list) and len(value) == 3 and all(map(_is_number, value))
        elif name in ("height", "width", "bytes"):
            fits = isinstance(value, dict) and all(map(_is_number, value.values()))
        elif name == "crops":
            fits = (
                isinstance(value, dict) and isinstance(value.get("side"), dict) and isinstance(value.get("notes"), dict)
            )
        else:
            fits = name not in ("images", "grey") or type(value) is int
        if not fits:
            return name
    return None


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and -(2**63) < value < 2**63


def _quantiles(counter: Counter[int]) -> dict[str, int]:
    """For each share in _SHARES the smallest value that this share of the photos does not exceed."""
    values = np.array(sorted(counter), np.int64)
    if not values.size:
        return {}
    reached = np.cumsum([counter[int(value)] for value in values])
    need = {name: max(1, int(np.ceil(share * int(reached[-1])))) for name, share in _SHARES.items()}
    return {name: int(values[np.searchsorted(reached, count)]) for name, count in need.items()}
