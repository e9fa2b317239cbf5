"""Scores of tables of regions against classes. Each is a pure function of its table.

Q regions, L classes. Empty regions and classes (rows and columns of zeros) are allowed.
"""

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import linear_sum_assignment

Table = NDArray[np.int64]
"""(Q, L) contingency table: the number of pixels that region q and class l share."""


def normalised_mutual_information(table: Table) -> float:
    """NMI of regions and classes: 2 I(regions; classes) / (H(regions) + H(classes)).

    table: (Q, L) pixel counts. From 0 (unrelated) to 1 (the same partition, whatever the names). The arithmetic mean of
    the entropies normalises, as in scikit-learn: 1 when both sides have one label only, 0 when one of them has. NaN for
    a table without pixels. Source: Strehl and Ghosh, JMLR 3 (2002).
    """
    total = table.sum()
    if total == 0:
        return float("nan")
    joint = table / total
    rows, columns = joint.sum(1), joint.sum(0)
    if (rows > 0).sum() == 1 and (columns > 0).sum() == 1:
        return 1.0
    filled = joint > 0
    shared = float((joint[filled] * np.log(joint[filled] / np.outer(rows, columns)[filled])).sum())
    return max(0.0, 2.0 * shared / (_entropy(rows) + _entropy(columns)))


def adjusted_rand(table: Table) -> float:
    """Adjusted Rand index: the share of pixel pairs on which both labellings agree, corrected for chance.

    table: (Q, L) pixel counts. 1 for the same partition, about 0 for an unrelated one, negative below chance. NaN for a
    table without pixels. Source: Hubert and Arabie, Journal of Classification 2 (1985).
    """
    cells, rows, columns = (_pairs(part) for part in (table, table.sum(1), table.sum(0)))
    everything = _pairs(table.sum())
    if table.sum() == 0:
        return float("nan")
    chance = rows * columns / everything if everything else 0.0
    best = (rows + columns) / 2
    return 1.0 if best == chance else float((cells - chance) / (best - chance))


def overlaps(table: Table) -> NDArray[np.float64]:
    """Intersection over union (IoU) of every region with every class, (Q, L) float64 from 0 to 1.

    table: (Q, L) pixel counts. 0 where both the region and the class are empty.
    """
    union = table.sum(1, keepdims=True) + table.sum(0, keepdims=True) - table
    return np.divide(table, union, out=np.zeros(table.shape), where=union > 0)


def match_one_to_one(table: Table) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Pair regions with classes so that the summed IoU is largest (Hungarian method).

    table: (Q, L) pixel counts. Returns (L,) int64, the region of each class, -1 where there are fewer regions than
    classes; and (L,) float64, its IoU, 0 for a class without a region. With more regions than classes, regions are left
    over; their pixels still count in the unions. A class without a pixel in the truth has NaN, so that `np.nanmean` is
    the mean IoU over the classes that occur.
    """
    iou = overlaps(table)
    regions, classes = linear_sum_assignment(iou, maximize=True)
    owner = np.full(table.shape[1], -1, np.int64)
    owner[classes] = regions
    score = np.zeros(table.shape[1])
    score[classes] = iou[regions, classes]
    return owner, np.where(table.sum(0) > 0, score, np.nan)


def match_by_majority(table: Table) -> NDArray[np.float64]:
    """IoU of each class with the union of all regions that hold more of it than of any other class.

    table: (Q, L) pixel counts. Returns (L,) float64; NaN for a class without a pixel in the truth. This many-to-one
    matching suits regions that are finer than the classes.
    """
    merged = np.zeros((table.shape[1], table.shape[1]), np.int64)
    np.add.at(merged, table.argmax(1), table)
    return np.where(table.sum(0) > 0, overlaps(merged).diagonal(), np.nan)


def _entropy(shares: NDArray[np.float64]) -> float:
    present = shares[shares > 0]
    return float(-(present * np.log(present)).sum())


def _pairs(counts: ArrayLike) -> float:
    numbers = np.asarray(counts, np.float64)  # squares of pixel counts overflow integers
    return float((numbers * (numbers - 1) / 2).sum())
