"""Scores of tables of regions against classes. Each is a pure function of its table.

A contingency table is (Q, L): how many pixels region q and class l share. Rows and columns of zeros are harmless.
"""

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import linear_sum_assignment

Table = NDArray[np.int64]


def normalised_mutual_information(table: Table) -> float:
    """2 I(regions; classes) / (H(regions) + H(classes)), from 0 (unrelated) to 1 (the same up to names).

    Strehl and Ghosh 2002 with the arithmetic mean, as scikit-learn has it: 1 when both sides have one label only,
    0 when one of them has. NaN for an empty table.
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
    """Share of pixel pairs on which both labellings agree, corrected for chance (Hubert and Arabie 1985).

    1 for the same partition, about 0 for an unrelated one. NaN for an empty table.
    """
    cells, rows, columns = (_pairs(part) for part in (table, table.sum(1), table.sum(0)))
    everything = _pairs(table.sum())
    if table.sum() == 0:
        return float("nan")
    chance = rows * columns / everything if everything else 0.0
    best = (rows + columns) / 2
    return 1.0 if best == chance else float((cells - chance) / (best - chance))


def overlaps(table: Table) -> NDArray[np.float64]:
    """(Q, L): intersection over union of every region with every class; 0 where both are empty."""
    union = table.sum(1, keepdims=True) + table.sum(0, keepdims=True) - table
    return np.divide(table, union, out=np.zeros(table.shape), where=union > 0)


def match_one_to_one(table: Table) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Pair regions with classes so that the summed IoU is largest (Hungarian method).

    Returns for each class the region it got (-1: none, when there are fewer regions than classes) and its IoU (0 then).
    With more regions than classes, regions are left over; their pixels still count in the unions. A class without a
    pixel in the truth gets NaN, so that `np.nanmean` is the mean IoU over the classes there are.
    """
    iou = overlaps(table)
    regions, classes = linear_sum_assignment(iou, maximize=True)
    owner = np.full(table.shape[1], -1, np.int64)
    owner[classes] = regions
    score = np.zeros(table.shape[1])
    score[classes] = iou[regions, classes]
    return owner, np.where(table.sum(0) > 0, score, np.nan)


def match_by_majority(table: Table) -> NDArray[np.float64]:
    """(L,): IoU of each class with the union of all regions that hold more of it than of any other class.

    The many-to-one reading of regions finer than the classes. NaN for a class without a pixel in the truth.
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
