import tracemalloc
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fra_dist.data.order.counter_random import key, permute, uniform
from fra_dist.data.order.plan import Plan
from fra_dist.data.order.plan_quality import measure_shuffle, rank_bytes, shards_of_rank, working_set
from fra_dist.errors import ConfigError, DataError


@st.composite
def plans(draw: st.DrawFn) -> Plan:
    sizes = draw(st.lists(st.integers(0, 40), min_size=1, max_size=12))
    sizes[0] += 1
    batch = draw(st.integers(1, min(24, sum(sizes))))
    return Plan(sizes, draw(st.integers(0, 99)), batch, draw(st.integers(1, 40)), draw(st.integers(0, 60)))


@settings(max_examples=25, deadline=None)
@given(plans())
def test_every_sample_once_an_epoch_and_nothing_dropped(plan: Plan) -> None:
    steps = -(-3 * plan.samples // plan.global_batch)
    batches = [plan.batch(step) for step in range(steps)]
    assert all(len(b.ids) == plan.global_batch for b in batches)
    ids, epochs = (np.concatenate(x) for x in zip(*batches, strict=True))
    assert (np.diff(epochs) >= 0).all()
    for epoch in range(3):
        assert sorted(ids[epochs == epoch]) == list(range(plan.samples))


@settings(max_examples=60, deadline=None)
@given(plans(), st.integers(0, 10**6))
def test_every_world_size_reads_the_same_batch(plan: Plan, step: int) -> None:
    whole = plan.batch(step)
    for world in (w for w in range(1, plan.global_batch + 1) if plan.global_batch % w == 0):
        for rank in range(world):
            part = plan.batch(step, rank, world)
            assert (part.ids == whole.ids[rank::world]).all()
            assert (part.epochs == whole.epochs[rank::world]).all()


def test_a_plan_is_a_function_of_its_arguments() -> None:
    args = ([30, 0, 50, 7], 3, 8, 4, 16)
    used = Plan(*args)
    for step in (9, 0, 500, 3):  # not disturbed by what was asked before
        assert (used.batch(step).ids == Plan(*args).batch(step).ids).all()
    other_seed = Plan(args[0], 4, *args[2:])
    assert (used.batch(0).ids != other_seed.batch(0).ids).any()
    assert (used.epoch_ids(0, np.arange(87)) != used.epoch_ids(1, np.arange(87))).any()


def test_the_order_stays_what_it_is() -> None:
    """A change here breaks the resumption of every run made before it."""
    assert Plan([5, 0, 9, 4], 7, 6, 2, 4).batch(2).ids.tolist() == [11, 3, 13, 2, 12, 4]


def test_a_rank_meets_few_streams() -> None:
    plan = Plan([1000] * 8, 0, 64, streams=16, window=50)
    assert [plan.streams_of_rank(world) for world in (1, 4, 16, 64, 6)] == [16, 4, 1, 1, 8]
    places = [plan.line_places(0, np.arange(3, 8000, 16))]  # rank 3 of 16: every 16th place
    assert np.ptp(places[0]) < 8000 / 16
    assert working_set(plan, [3], world=16) <= 2
    assert working_set(plan, [0], world=1) == 8
    assert working_set(Plan([1000] * 8, 0, 64, window=0), [0], world=64) == 8


@given(
    sizes=st.lists(st.integers(0, 30), min_size=1, max_size=12).filter(lambda sizes: sum(sizes) >= 8),
    streams=st.integers(1, 9),
    world=st.sampled_from([1, 2, 4, 8]),
    window=st.sampled_from([0, 3, 20]),
)
def test_the_shards_of_a_rank_are_those_it_reads(sizes: list[int], streams: int, world: int, window: int) -> None:
    plan = Plan(sizes, 0, 8, streams=streams, window=window)
    rank = world - 1
    steps = plan.samples // 8  # whole batches of the first epoch
    ids = np.concatenate([plan.batch(step, rank, world).ids for step in range(steps)])
    read = set((np.searchsorted(plan.first_ids, ids, side="right") - 1).tolist())
    assert len(read) <= shards_of_rank(plan, rank, world) <= sum(size > 0 for size in sizes)
    if window and plan.samples % 8 == 0 and plan.streams % world == 0:  # streams are not shared between ranks
        assert len(read) == shards_of_rank(plan, rank, world)


def test_samples_stay_within_their_window_and_mix() -> None:
    plan = Plan([100] * 100, 5, 50, streams=10, window=250)
    found = measure_shuffle(plan)
    assert found.moved_max < 250
    assert found.moved_mean == pytest.approx(250 / 3, rel=0.1)
    full = measure_shuffle(Plan([100] * 100, 5, 50, streams=10, window=0))
    assert abs(full.correlation) < 0.05 < measure_shuffle(Plan([100] * 100, 5, 50, 10, 1)).correlation
    assert full.same_shard == pytest.approx(full.same_shard_by_chance, abs=0.005)


def test_ranks_read_about_as_many_bytes() -> None:
    rng = np.random.default_rng(0)
    sizes = rng.integers(50, 150, 60)
    read = rank_bytes(Plan(sizes, 0, 64, 32, 256), sizes * rng.integers(20_000, 60_000, 60), world=8, steps=90)
    assert read.min() > 0.8 * read.mean() > 0


def test_steps_cover_the_epochs_asked_for() -> None:
    plan = Plan([10, 15], 0, 10)
    assert plan.steps_per_epoch == 2.5
    assert [plan.steps(e) for e in (0.1, 1, 2, 4)] == [1, 3, 5, 10]


def test_what_cannot_work_is_refused() -> None:
    with pytest.raises(DataError, match="hold 12 samples, fewer than one global batch of 16"):
        Plan([5, 7], 0, 16)
    with pytest.raises(ConfigError, match="cannot be shared equally by 3 ranks"):
        Plan([50], 0, 16).batch(0, 0, 3)
    with pytest.raises(ValueError, match="rank 4 in a world of 4"):
        Plan([50], 0, 16).batch(0, 4, 4)


def test_a_billion_samples_on_4096_ranks() -> None:
    sizes = np.random.default_rng(0).integers(5_000, 15_000, 100_000)
    tracemalloc.start()
    plan = Plan(sizes, 0, 4096 * 32, 4096, 4096)
    for step in (0, 7_600, 10**9):  # 7,600: near the end of the first epoch
        assert len(plan.batch(step, 4095, 4096).ids) == 32
    assert tracemalloc.get_traced_memory()[1] < 50e6
    tracemalloc.stop()


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 700), st.integers(0, 2**60))
def test_permutations_are_one_to_one(size: int, seed: int) -> None:
    assert sorted(permute(np.arange(size), size, key(seed))) == list(range(size))


def test_permutations_are_uniform() -> None:
    seen = np.zeros((6, 6))
    for seed in range(1500):
        seen[np.arange(6), permute(np.arange(6), 6, key(seed))] += 1
    assert ((seen - 250) ** 2 / 250).sum() < 60  # chi-square, 25 degrees of freedom: 60 has p = 1e-4
    adjacent = [int(a + 1 == b) for s in range(300) for a, b in pairwise(permute(np.arange(50), 50, key(s)))]
    assert np.mean(adjacent) == pytest.approx(1 / 50, abs=0.006)


def test_keys_tell_their_parts_apart() -> None:
    words = np.concatenate([key(1, 2), key(2, 1), key(1, 2, 0), key(12), key(-1)])
    assert len(set(words.tolist())) == 5
    drawn = uniform(key(0, np.arange(20_000)))
    assert 0 <= drawn.min() < drawn.max() < 1
    assert drawn.mean() == pytest.approx(0.5, abs=0.01)
