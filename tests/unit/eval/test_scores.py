import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import recall_score, roc_auc_score

from fra_dist.errors import DataError
from fra_dist.eval.readers.frozen_readers import RIDGES, Part, Sealed, fit_logistic, fit_neighbours, fit_ridge
from fra_dist.eval.scores.intervals import Score, area, balanced, mean_of, mean_statistic, with_interval
from fra_dist.eval.scores.label_shares import draw_classes, draw_rows

RNG = np.random.default_rng(5)


def test_the_interval_of_a_mean_is_the_normal_one():
    values = RNG.standard_normal(400) + 3
    score = with_interval(mean_of(values), 400, seed=1)
    error = values.std() / 20
    assert score.value == pytest.approx(values.mean())
    assert score.low == pytest.approx(values.mean() - 1.96 * error, abs=0.25 * error)
    assert score.high == pytest.approx(values.mean() + 1.96 * error, abs=0.25 * error)
    assert with_interval(mean_of(values), 400, seed=1) == score


def test_people_widen_the_interval():
    people = np.repeat(np.arange(20), 20)
    values = RNG.standard_normal(20)[people]
    alone, together = (with_interval(mean_of(values), 400, who) for who in (None, people))
    assert together.value == alone.value
    assert together.high - together.low > 3 * (alone.high - alone.low)


def test_draws_of_two_networks_are_of_the_same_people():
    """Shifted values differ by the shift in every draw, whatever the draw; the draws make the interval."""
    values, people = RNG.standard_normal(60), np.repeat(np.arange(20), 3)
    one, two = (with_interval(mean_of(values + shift), 60, people, 3, draws=50) for shift in (0, 1))
    assert np.subtract(two.drawn, one.drawn) == pytest.approx(np.ones(50))
    assert one.low == pytest.approx(np.percentile(one.drawn, 2.5))
    assert "drawn" not in one.to_json()


def test_draws_are_averaged():
    assert mean_of([[1, 0, 1], [1, 1, 0]])(np.ones(3)) == pytest.approx(4 / 6)
    hits, labels = [[1, 0, 1], [1, 1, 1]], [0, 0, 1]
    assert balanced(hits, labels)(np.ones(3)) == pytest.approx((0.75 + 1) / 2)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 4), st.booleans(), st.integers(0, 3)), min_size=1, max_size=25))
def test_weights_are_repetitions(rows):
    """A weight of 3 is the example three times: for balanced accuracy and the area under the curve."""
    values, hit, times = (np.array(column) for column in zip(*rows, strict=True))
    repeated = np.repeat(np.arange(len(rows)), times)
    weights = times.astype(float)
    both = len(set(hit[repeated])) == 2
    expected = roc_auc_score(hit[repeated], values[repeated]) if both else float("nan")
    assert area(values, hit)(weights) == pytest.approx(expected, nan_ok=True)
    if len(repeated):
        names = sorted(set(hit[repeated]))
        found = recall_score(hit[repeated], (values >= 2)[repeated], labels=names, average="macro", zero_division=0)
        assert balanced((values >= 2) == hit, hit)(weights) == pytest.approx(found)


def test_undefined_statistics_are_left_out():
    some = mean_statistic([lambda w: float("nan"), lambda w: 2.0])
    assert some(np.ones(1)) == 2.0
    assert np.isnan(mean_statistic([lambda w: float("nan")])(np.ones(1)))
    assert Score(float("nan"), 0, 1, 3).to_json()["value"] is None


def test_the_test_part_opens_once():
    sealed = Sealed(np.arange(3))
    assert sealed.open().tolist() == [0, 1, 2]
    with pytest.raises(RuntimeError, match="used already"):
        sealed.open()


def clusters(count, spread):
    centres = np.random.default_rng(0).standard_normal((3, 12))
    labels = RNG.integers(0, 3, count)
    return Part((centres[labels] + spread * RNG.standard_normal((count, 12))).astype(np.float32), labels)


def hits(part):
    return lambda outputs: float((outputs.argmax(1) == part.targets).mean())


def test_readers_find_classes_that_stand_apart():
    train, held, test = clusters(90, 0.4), clusters(30, 0.4), clusters(60, 0.4)
    one_hot = Part(train.features, np.eye(3)[train.targets])
    for reader in (
        fit_logistic(train, held, hits(held), 3),
        fit_neighbours(train, held, hits(held), 3),
        fit_ridge(one_hot, held, hits(held)),
    ):
        assert (reader.answer(test.features).argmax(1) == test.targets).mean() > 0.9


def test_logistic_is_scikit_learns():
    from sklearn.linear_model import LogisticRegression

    train, held = clusters(120, 1.5), clusters(60, 1.5)
    reader = fit_logistic(train, held, hits(held), 3)
    rows = (train.features - train.features.mean(0)) / train.features.std(0) / np.sqrt(12)
    theirs = LogisticRegression(C=1 / (reader.chosen * 120), tol=1e-8, max_iter=5000).fit(rows, train.targets)
    shares = np.exp(reader.answer(train.features))
    shares /= shares.sum(1, keepdims=True)
    assert shares == pytest.approx(theirs.predict_proba(rows), abs=0.02)


def test_signs_that_are_unknown_teach_nothing():
    features = RNG.standard_normal((200, 6)).astype(np.float32)
    signs = (features[:, :2] > 0).astype(np.int64)
    wrong = signs.copy()
    wrong[:100] = 1 - wrong[:100]
    masked = np.where(np.arange(200)[:, None] < 100, -1, signs)
    test = RNG.standard_normal((100, 6)).astype(np.float32)

    def score(outputs):
        return float(((outputs > 0) == (signs == 1)).mean())

    reader = fit_logistic(Part(features, masked), Part(features, signs), score, 2)
    assert ((reader.answer(test) > 0) == (test[:, :2] > 0)).mean() > 0.9


def test_wide_features_are_projected(monkeypatch):
    from fra_dist.eval.readers import frozen_readers

    monkeypatch.setattr(frozen_readers, "LARGEST_GRAM", 40)
    features = RNG.standard_normal((100, 3)) @ RNG.standard_normal((3, 80))
    targets = features[:, :2]
    part = Part(features.astype(np.float32), targets)
    reader = fit_ridge(part, part, lambda out: -float(((out - targets) ** 2).mean()))
    assert reader.answer(features.astype(np.float32)) == pytest.approx(targets, abs=0.1)


def test_shares_of_labels_are_of_each_class():
    labels = np.repeat([0, 1, 2], [100, 50, 10])
    names = ("a", "b", "c")
    chosen = draw_classes(labels, 10, 0, names)
    assert np.bincount(labels[chosen]).tolist() == [10, 5, 1]
    assert (chosen != draw_classes(labels, 10, 1, names)).any()
    assert len(draw_classes(labels, 100, 0, names)) == 160
    assert np.bincount(labels[draw_classes(labels, 1, 0, names, least=1)]).tolist() == [1, 1, 1]
    with pytest.raises(DataError, match="'c' has 10 training faces and none in 1 %") as caught:
        draw_classes(labels, 1, 0, names)
    assert "--labels 5" in str(caught.value)


def test_shares_of_attributes_need_both_kinds():
    signs = np.zeros((100, 2), np.int64)
    signs[::2, 0] = 1
    signs[:3, 1] = 1
    assert len(draw_rows(signs, 10, 0, ("x", "y"), check=False)) == 10
    with pytest.raises(DataError, match="no face with 'y' among the 5"):
        draw_rows(signs, 5, 0, ("x", "y"))


@pytest.mark.parametrize("shape", [(60, 8), (20, 50)], ids=["tall", "wide"])
def test_ridge_is_the_textbook_one(shape):
    from sklearn.linear_model import Ridge

    features = RNG.standard_normal(shape).astype(np.float32)
    targets = features[:, :2] + 0.5 * RNG.standard_normal((shape[0], 2))
    held = Part(RNG.standard_normal((15, shape[1])).astype(np.float32), RNG.standard_normal((15, 2)))
    reader = fit_ridge(Part(features, targets), held, lambda out: -float(((out - held.targets) ** 2).mean()))
    standard = (features - features.mean(0)) / features.std(0)
    rows = standard.astype(np.float64)
    unit = np.linalg.eigvalsh(rows @ rows.T if shape[1] > shape[0] else rows.T @ rows).mean() / shape[1]
    theirs = Ridge(alpha=reader.chosen * unit, solver="cholesky").fit(rows / np.sqrt(shape[1]), targets)
    seen = held.features.clip(features.min(0), features.max(0))  # no further than training goes
    expected = theirs.predict((seen - features.mean(0)) / features.std(0) / np.sqrt(shape[1]))
    assert reader.answer(held.features) == pytest.approx(expected, abs=1e-3)


def test_validation_chooses_the_strength():
    features = RNG.standard_normal((60, 50)).astype(np.float32)  # 30 rows to fit 50 weights: weak ridge overfits
    targets = features[:, :1] + 3 * RNG.standard_normal((60, 1))
    train, held = Part(features[:30], targets[:30]), Part(features[30:45], targets[30:45])
    seen = []

    def score(out):
        seen.append(-float(((out - held.targets) ** 2).mean()))
        return seen[-1]

    reader = fit_ridge(train, held, score)
    assert len(seen) == len(RIDGES)
    assert -float(((reader.answer(held.features) - held.targets) ** 2).mean()) == pytest.approx(max(seen), rel=1e-3)


def test_constant_features_do_no_harm():
    features = np.concatenate([RNG.standard_normal((20, 2)), np.full((20, 1), 7.0)], axis=1).astype(np.float32)
    part = Part(features, features[:, :1])
    reader = fit_ridge(part, part, lambda out: -float(((out - part.targets) ** 2).mean()))
    shifted = features + np.array([0, 0, 1e6], np.float32)
    assert reader.answer(shifted) == pytest.approx(features[:, :1], abs=1e-2)
    nothing = Part(np.ones((5, 3), np.float32), np.arange(5.0)[:, None])
    assert fit_ridge(nothing, nothing, lambda out: 0.0).answer(np.ones((2, 3), np.float32)) == pytest.approx(2.0)


def test_noise_is_left_at_chance():
    def noise(count):
        return Part(RNG.standard_normal((count, 10)).astype(np.float32), RNG.integers(0, 4, count))

    train, held, test = noise(240), noise(60), noise(100)
    one_hot = Part(train.features, np.eye(4)[train.targets])
    for reader in (fit_ridge(one_hot, held, hits(held)), fit_neighbours(train, held, hits(held), 4)):
        assert (reader.answer(test.features).argmax(1) == test.targets).mean() < 0.45


def test_fewer_faces_than_neighbours_is_fine():
    train = Part(RNG.standard_normal((3, 4)).astype(np.float32), np.array([0, 1, 0]))
    reader = fit_neighbours(train, train, hits(train), 2)
    assert set(reader.answer(RNG.standard_normal((7, 4)).astype(np.float32)).argmax(1)) <= {0, 1}
