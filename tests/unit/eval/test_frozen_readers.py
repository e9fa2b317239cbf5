import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from fra_dist.eval.readers import frozen_readers
from fra_dist.eval.readers.frozen_readers import Part, Scaling, fit_logistic, fit_ridge


def faces(count, rng):
    """Features of which the first four tell the target, and one that a single training face shows, by a hair."""
    features = rng.standard_normal((count, 12)).astype(np.float32)
    features[:, -1] = 0
    return features, features[:, :4] @ rng.standard_normal((4, 3)).astype(np.float32)


@pytest.mark.parametrize(("examples", "projected"), [(60, False), (8, False), (60, True)])  # 12 features
def test_a_feature_that_training_hardly_knows_does_not_decide(examples, projected, monkeypatch):
    if projected:
        monkeypatch.setattr(frozen_readers, "LARGEST_GRAM", 10)
    rng = np.random.default_rng(0)
    features, targets = faces(examples + 40, rng)
    features[0, -1] = 1e-3
    parts = [Part(features[some], targets[some]) for some in (slice(examples), slice(examples, examples + 20))]
    reader = fit_ridge(*parts, lambda outputs: -float(np.abs(outputs - parts[1].targets).mean()))
    seen = features[-20:].copy()
    calm = reader.answer(seen)
    seen[:, -1] = 5.0
    assert np.abs(reader.answer(seen) - calm).max() < np.ptp(targets)
    seen[:, -1] = 1e-3
    assert np.array_equal(reader.answer(seen), reader.answer(seen.clip(max=features[:examples].max(0))))


def test_nor_does_it_for_classes():
    rng = np.random.default_rng(1)
    features, _ = faces(80, rng)
    labels = (features[:, 0] > 0).astype(np.int64)
    features[0, -1] = 1e-3
    parts = [Part(features[some], labels[some]) for some in (slice(40), slice(40, 60))]
    reader = fit_logistic(*parts, lambda outputs: float((outputs.argmax(1) == parts[1].targets).mean()), 2)
    seen = features[60:].copy()
    seen[:, -1] = 5.0
    assert np.array_equal(reader.answer(seen), reader.answer(seen.clip(features[:40].min(0), features[:40].max(0))))


ROWS = arrays(np.float32, (7, 5), elements=st.floats(-1e3, 1e3, width=32))


@given(ROWS, ROWS)
def test_scaled_features_stay_in_the_range_of_training(train, others):
    scaling, known = Scaling.fit(train)
    low, high = known.min(0), known.max(0)
    assert np.array_equal(scaling(train), known)
    found = scaling(others)
    assert found.dtype == np.float32
    assert (found >= low).all()
    assert (found <= high).all()
    constant = np.ptp(train, axis=0) == 0
    assert (found[:, constant] == scaling(train)[0, constant]).all()  # constants say nothing
