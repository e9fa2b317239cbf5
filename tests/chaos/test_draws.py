"""Faults are drawn from the seed alone, every kind in turn, at moments that a training has."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fra_dist.errors import LaunchError
from fra_dist.launch.chaos.fault_draws import CALLS, KINDS, SHARDS, Length, draw_faults, kinds_for
from fra_dist.launch.chaos.trial import HARMS

LENGTH = Length(30, 5)


def test_every_kind_has_something_that_it_does():
    assert set(HARMS) == set(KINDS)


@given(st.integers(0, 2**32), st.integers(1, 60))
def test_the_seed_decides(seed, count):
    faults = draw_faults(count, seed, LENGTH, KINDS)
    assert faults == draw_faults(count, seed, LENGTH, KINDS)
    assert faults == draw_faults(count + 7, seed, LENGTH, KINDS)[:count]
    assert [fault.number for fault in faults] == list(range(1, count + 1))
    assert all(fault.details().random() == fault.details().random() for fault in faults)


def test_seeds_differ():
    assert draw_faults(20, 1, LENGTH, KINDS) != draw_faults(20, 2, LENGTH, KINDS)


@given(st.integers(0, 999))
def test_no_kind_comes_twice_before_all_came_once(seed):
    faults = draw_faults(3 * len(KINDS), seed, LENGTH, KINDS)
    for start in range(0, len(faults), len(KINDS)):
        assert {fault.kind for fault in faults[start : start + len(KINDS)]} == set(KINDS)


@given(st.integers(0, 999), st.integers(24, 200))
def test_moments_suit_the_kind(seed, steps):
    length = Length(steps, steps // 6)
    for fault in draw_faults(2 * len(KINDS), seed, length, KINDS):
        assert 0 <= fault.offset < 1
        match fault.kind:
            case "NaN in a batch":
                assert length.save_every < fault.step < steps
            case "flipped bit in checkpoint" | "cut checkpoint":
                assert 2 * length.save_every < fault.step < steps
            case "two starts" | "slow disk":
                assert fault.step == 0
            case _:
                assert 0 <= fault.step < steps * 3 / 4


def test_kinds_that_make_no_sense_are_left_out():
    assert len(kinds_for(1, shards=True)) == 14
    assert set(kinds_for(2, shards=True)) == set(KINDS)
    assert not set(kinds_for(2, shards=False)) & set(SHARDS)
    assert set(KINDS) - set(kinds_for(2, shards=True, calls=False)) == set(CALLS)


@pytest.mark.parametrize(("steps", "every"), [(23, 3), (30, 6), (0, 1)])
def test_too_short_trainings_are_refused(steps, every):
    with pytest.raises(LaunchError, match="--steps"):
        Length(steps, every)
