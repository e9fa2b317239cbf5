import itertools
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from sklearn.metrics import (
    adjusted_rand_score,
    normalized_mutual_info_score,
)

from fra_dist.eval.scores import table_scores

tables = arrays(np.int64, st.tuples(st.integers(1, 7), st.integers(1, 7)), elements=st.integers(0, 30))


def labels_of(table):
    rows, columns = np.indices(table.shape)
    return np.repeat(rows.ravel(), table.ravel()), np.repeat(columns.ravel(), table.ravel())


@settings(max_examples=80, deadline=None)
@given(tables.filter(lambda t: t.sum() > 0))
def test_scores_of_a_table_are_those_of_its_labels(table):
    regions, classes = labels_of(table)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # scikit-learn talks about few labels
        assert table_scores.normalised_mutual_information(table) == pytest.approx(
            normalized_mutual_info_score(classes, regions), abs=1e-9
        )
    assert table_scores.adjusted_rand(table) == pytest.approx(adjusted_rand_score(classes, regions), abs=1e-9)


def test_scores_survive_pixel_counts_whose_squares_overflow():
    table = np.array([[3_000_000_000, 0], [0, 5_000_000_000]])
    assert table_scores.adjusted_rand(table) == pytest.approx(1.0)
    assert table_scores.normalised_mutual_information(table) == pytest.approx(1.0)


def test_an_empty_table_has_no_score():
    table = np.zeros((3, 2), np.int64)
    assert np.isnan(table_scores.normalised_mutual_information(table))
    assert np.isnan(table_scores.adjusted_rand(table))


@settings(max_examples=40, deadline=None)
@given(arrays(np.int64, st.tuples(st.integers(1, 5), st.integers(1, 5)), elements=st.integers(0, 9)))
def test_one_to_one_matching_is_the_best_there_is(table):
    owner, iou = table_scores.match_one_to_one(table)
    overlap = table_scores.overlaps(table)
    rows, columns = table.shape
    pairings = (
        sum(overlap[q, k] for k, q in enumerate(order) if q < rows)
        for order in itertools.permutations(range(max(rows, columns)), columns)
    )
    assert np.nansum(iou) == pytest.approx(max(pairings))
    used = owner[owner >= 0]
    assert len(set(used)) == len(used) == min(rows, columns)


def test_iou_of_a_worked_example():
    table = np.array([[6, 2, 0], [0, 4, 0], [0, 0, 0], [1, 0, 0]])
    owner, iou = table_scores.match_one_to_one(table)
    assert owner[:2].tolist() == [0, 1]
    assert iou[:2] == pytest.approx([6 / 9, 4 / 6])
    assert np.isnan(iou[2])  # a class that no pixel has
    majority = table_scores.match_by_majority(table)
    assert majority[:2] == pytest.approx([7 / 9, 4 / 6])  # regions 0 and 3 together are class 0


def test_fewer_regions_than_classes_leave_classes_at_zero():
    _, iou = table_scores.match_one_to_one(np.array([[5, 5, 1]]))
    assert sorted(iou.tolist()) == pytest.approx([0.0, 0.0, 5 / 11])
