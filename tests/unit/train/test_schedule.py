import math
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fra_dist.train.optim.schedule import ema_momentum, learning_rate, weight_decay


def test_warm_up_and_cosine_of_a_short_run():
    rates = [learning_rate(step, 5, 2, 0.9) for step in range(5)]
    assert rates == pytest.approx([0.45, 0.9, 0.9, 0.675, 0.225])


def test_without_warm_up_it_starts_at_the_peak():
    assert learning_rate(0, 10, 0, 2.0) == 2.0


@given(st.integers(1, 500), st.data())
def test_it_rises_then_falls_and_stays_between_0_and_the_peak(total, data):
    warmup = data.draw(st.integers(0, total - 1))
    rates = [learning_rate(step, total, warmup, 3.0) for step in range(total)]
    assert all(0 < rate <= 3.0 for rate in rates)
    assert all(a < b for a, b in pairwise(rates[:warmup]))
    assert all(a >= b for a, b in pairwise(rates[warmup:]))
    assert max(rates) == 3.0
    assert learning_rate(total, total, warmup, 3.0) == pytest.approx(0)


def test_ema_momentum_is_half_a_cosine():
    assert ema_momentum(0, 100, 0.996) == pytest.approx(0.996)
    assert ema_momentum(50, 100, 0.996) == pytest.approx(0.998)
    assert ema_momentum(100, 100, 0.996) == 1.0
    assert ema_momentum(25, 100, 0.9) == pytest.approx(1 - 0.1 * (math.cos(math.pi / 4) + 1) / 2)


def test_a_cosine_may_end_above_0_and_other_shapes_keep_the_warm_up():
    assert learning_rate(0, 12, 2, 1.0, "constant") == learning_rate(0, 12, 2, 1.0, "step") == 0.5
    assert [learning_rate(step, 12, 2, 1.0, "cosine", 0.2) for step in (2, 7, 12)] == pytest.approx([1.0, 0.6, 0.2])
    assert [learning_rate(step, 12, 2, 1.0, "constant", 0.2) for step in (2, 7, 12)] == [1.0] * 3
    rates = [learning_rate(step, 12, 2, 1.0, "step", drops=(0.5, 0.8)) for step in (6, 7, 9, 10, 11)]
    assert rates == pytest.approx([1.0, 0.1, 0.1, 0.01, 0.01])


def test_weight_decay_follows_half_a_cosine_or_stays():
    assert weight_decay(7, 10, 0.04, None) == 0.04
    assert [weight_decay(step, 10, 0.04, 0.4) for step in (0, 5, 10, 11)] == pytest.approx([0.04, 0.22, 0.4, 0.4])


def test_ema_momentum_may_stay():
    assert {ema_momentum(step, 10, 0.99, "constant") for step in range(12)} == {0.99}
