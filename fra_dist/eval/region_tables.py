"""Contingency tables of regions and classes, one for each photo, and the scores that follow from the tables alone.

n photos, Q regions, L classes, M pixels per side of the masks.
"""

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from fra_dist.eval.regions.pixel_regions import FACIAL_PARTS, IN_USE, assign
from fra_dist.eval.regions.segmenters import Segmenter
from fra_dist.eval.scores import table_scores
from fra_dist.eval.scores.intervals import Floats, Statistic

BATCH = 64


def count_tables(
    photos: NDArray[np.uint8], masks: NDArray[np.uint8], way: Segmenter, regions: int, classes: int
) -> NDArray[np.int64]:
    """Pixels of each photo by region and class, (n, Q, L); other values of the mask do not count.

    way: finds the regions of photos (n, S, S, 3); masks: (n, M, M).
    """
    found = [np.zeros((0, regions, classes), np.int64)]
    for start in range(0, len(photos), BATCH):
        some = masks[start : start + BATCH]
        there = assign(way(photos[start : start + BATCH]), (some.shape[1], some.shape[2]))
        found.append(count_pixels(there, some, regions, classes))
    return np.concatenate(found)


def count_similarity(similarity: Tensor, masks: NDArray[np.uint8], classes: int) -> NDArray[np.int64]:
    """Pixels of each photo by region and class, (n, Q, L), from similarities (n, Q, h, w) and masks (n, M, M)."""
    parts = range(0, len(masks), BATCH)
    found = [assign(similarity[start : start + BATCH], (masks.shape[1], masks.shape[2])) for start in parts]
    return count_pixels(np.concatenate(found), masks, similarity.shape[1], classes)


def count_pixels(
    assigned: NDArray[np.int64], masks: NDArray[np.uint8], regions: int, classes: int
) -> NDArray[np.int64]:
    """Pixels by region and class, (n, Q, L), from two (n, M, M) of region and class numbers.

    Regions below 0 and classes from `classes` on do not count.
    """
    found = np.zeros((len(masks), regions, classes), np.int64)
    for n, (region, mask) in enumerate(zip(assigned, masks, strict=True)):
        counted = (mask < classes) & (region >= 0)
        cells = region[counted] * classes + mask[counted]
        found[n] = np.bincount(cells, minlength=regions * classes).reshape(regions, classes)
    return found


def agreement(tables: NDArray[np.int64], classes: Sequence[str], whole: bool = True) -> dict[str, Statistic]:
    """NMI, ARI and mIoU of the sum of tables (n, Q, L),
    over all classes (if `whole`) and over the facial parts only."""
    parts = [k for k, name in enumerate(classes) if name in FACIAL_PARTS]
    found: dict[str, Statistic] = {}
    for prefix, columns in (("", list(range(len(classes)))), ("parts_", parts)):
        if (whole or prefix) and len(columns) > 1:
            some = tables[:, :, columns].astype(np.float64)
            found[f"{prefix}nmi"] = of_sum(some, table_scores.normalised_mutual_information)
            found[f"{prefix}ari"] = of_sum(some, table_scores.adjusted_rand)
            found[f"{prefix}miou"] = of_sum(
                some, lambda table: float(np.nanmean(table_scores.match_one_to_one(table)[1]))
            )
    return found


def describe_table(table: NDArray[np.int64], classes: Sequence[str]) -> dict[str, object]:
    """What one table (Q, L) of all photos says beside its scores.

    Returns `iou` (of each class with its region by Hungarian matching; None without a pixel), `miou_majority` (mean IoU
    when every region takes the name of its most frequent class), `shares` (of the pixels, region by region) and
    `in_use` (how many regions hold at least IN_USE of them).
    """
    shares = table.sum(1) / max(table.sum(), 1)
    iou, majority = table_scores.match_one_to_one(table)[1], table_scores.match_by_majority(table)
    return {
        "iou": {name: None if np.isnan(value) else float(value) for name, value in zip(classes, iou, strict=True)},
        "miou_majority": float(np.nanmean(majority)) if table.any() else float("nan"),
        "shares": [round(float(share), 6) for share in shares],
        "in_use": int((shares >= IN_USE).sum()),
    }


def of_sum(tables: Floats, score: Callable[[table_scores.Table], float]) -> Statistic:
    """The score of the weighted sum of tables (n, Q, L), as a function of the weights; NaN when nothing was counted."""

    def statistic(weights: Floats) -> float:
        total = np.tensordot(weights, tables, 1).round().astype(np.int64)
        return score(total) if total.any() else float("nan")

    return statistic
