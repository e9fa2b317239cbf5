import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import Ridge

from fra_dist.eval.readers.linear_probes import (
    RidgePath,
    Split,
    linear_classifier,
    linear_probe,
    nearest_neighbours,
    split_by,
    split_within,
)
from fra_dist.eval.scores.metrics import accuracy

RNG = np.random.default_rng(0)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(0, 12), min_size=0, max_size=60), st.integers(0, 5))
def test_people_are_in_one_part_only(people, seed):
    groups = np.array(people, np.int64)
    split = split_by(groups, seed)
    parts = [set(groups[part]) for part in (split.train, split.validation, split.test)]
    assert sum(len(part) for part in parts) == len(set.union(*parts))
    assert sorted(np.concatenate([split.train, split.validation, split.test])) == list(range(len(groups)))


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(0, 8), min_size=0, max_size=60), st.integers(0, 5))
def test_photos_of_each_person_are_shared_out(people, seed):
    groups = np.array(people, np.int64)
    split = split_within(groups, seed)
    used = np.concatenate([split.train, split.validation, split.test])
    assert len(set(used)) == len(used)
    often = [name for name in np.unique(groups) if (groups == name).sum() >= 3]
    for part in (split.train, split.validation, split.test):
        assert sorted(np.unique(groups[part])) == often


def test_splits_have_the_sizes_they_say_and_repeat():
    split = split_by(np.arange(1000))
    assert (len(split.train), len(split.validation), len(split.test)) == (600, 150, 250)
    assert (split.train == split_by(np.arange(1000)).train).all()
    assert (split.train != split_by(np.arange(1000), seed=1).train).any()


@pytest.mark.parametrize("shape", [(30, 5), (12, 40)], ids=["tall", "wide"])
def test_ridge_is_the_textbook_one(shape):
    features, targets = RNG.standard_normal(shape), RNG.standard_normal((shape[0], 3))
    path = RidgePath(features, targets)
    for strength in (0.01, 1.0):
        standard = (features - features.mean(0)) / features.std(0)
        theirs = Ridge(alpha=strength * path.unit, solver="cholesky").fit(standard, targets)
        assert path.predict(features, strength) == pytest.approx(theirs.predict(standard), abs=1e-8)


def test_constant_features_do_no_harm():
    features = np.concatenate([RNG.standard_normal((20, 2)), np.full((20, 1), 7.0)], axis=1)
    path = RidgePath(features, features[:, :1])
    shifted = features + np.array([0, 0, 1e6])
    assert path.predict(shifted, 1e-6) == pytest.approx(features[:, :1], abs=1e-3)
    everything_constant = RidgePath(np.ones((5, 3)), np.arange(5.0)[:, None])
    assert everything_constant.predict(np.ones((2, 3)), 1.0) == pytest.approx(2.0)


def clusters(count, classes, spread, dimensions=20):
    centres = RNG.standard_normal((classes, dimensions))
    labels = RNG.integers(0, classes, count)
    return centres[labels] + spread * RNG.standard_normal((count, dimensions)), labels


@pytest.mark.parametrize("reader", [linear_classifier, nearest_neighbours])
def test_classes_that_stand_apart_are_found(reader):
    features, labels = clusters(300, 4, 0.2)
    names = labels * 10 - 5  # any integers
    split = split_by(np.arange(300))
    assert accuracy(reader(features, names, split), names[split.test]) > 0.97


@pytest.mark.parametrize("reader", [linear_classifier, nearest_neighbours])
def test_noise_is_left_at_chance(reader):
    features, labels = RNG.standard_normal((400, 10)), RNG.integers(0, 4, 400)
    split = split_by(np.arange(400))
    assert accuracy(reader(features, labels, split), labels[split.test]) < 0.45


def test_the_test_part_is_not_read():
    features, labels = clusters(200, 3, 0.5)
    split = split_by(np.arange(200))
    before = linear_classifier(features, labels, split), nearest_neighbours(features, labels, split)
    wrong = labels.copy()
    wrong[split.test] = (labels[split.test] + 1) % 3
    after = linear_classifier(features, wrong, split), nearest_neighbours(features, wrong, split)
    assert all((one == two).all() for one, two in zip(before, after, strict=True))


def test_validation_chooses_the_strength():
    features = RNG.standard_normal((60, 50))  # 30 rows to fit 50 weights: weak ridge overfits
    targets = features[:, :1] + 3 * RNG.standard_normal((60, 1))
    split = Split(np.arange(30), np.arange(30, 45), np.arange(45, 60))
    asked = []

    def score(out, places):
        asked.append(set(places))
        return -float(((out - targets[places]) ** 2).mean())

    chosen = linear_probe(features, targets, split, score)
    assert all(places == set(range(30, 45)) for places in asked)
    path = RidgePath(features[:30], targets[:30])
    errors = {
        r: -score(path.predict(features[30:45], r), split.validation) for r in (0.001, 0.01, 0.1, 1, 10, 100, 1000)
    }
    assert chosen == pytest.approx(path.predict(features[45:], min(errors, key=errors.get)))


def test_fewer_photos_than_neighbours_is_fine():
    split = Split(np.arange(3), np.arange(3, 5), np.arange(5, 7))
    labels = np.array([0, 1, 0, 1, 0, 0, 1])
    assert set(nearest_neighbours(RNG.standard_normal((7, 4)), labels, split)) <= {0, 1}
