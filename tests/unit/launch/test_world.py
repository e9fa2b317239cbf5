import pytest
from hypothesis import given
from hypothesis import strategies as st

from fra_dist.config import parse_config
from fra_dist.errors import ConfigError, LaunchError
from fra_dist.launch.world import AgentHost, Bounds, largest, rank_environments, rank_order, world_sizes


def config(batch, micro=None):
    return parse_config({"train": {"global_batch": batch, "micro_batch": micro}})


@pytest.mark.parametrize(("text", "bounds"), [("4", Bounds(4, 4)), ("2:16", Bounds(2, 16))])
def test_bounds(text, bounds):
    assert Bounds.parse(text) == bounds


@pytest.mark.parametrize("text", ["0", "4:2", "a", "", "1:2:3", "-1"])
def test_bad_bounds(text):
    with pytest.raises(LaunchError, match="MIN:MAX"):
        Bounds.parse(text)


def test_sizes_divide_the_batch():
    assert world_sizes(config(24), Bounds(1, 12)) == (1, 2, 3, 4, 6, 8, 12)
    assert world_sizes(config(24, micro=8), Bounds(1, 12)) == (1, 2, 3, 4, 6, 8, 12)
    assert world_sizes(config(56, micro=6), Bounds(1, 28)) == (1, 2, 7, 14, 28)  # 14 images go in twos or sevens
    with pytest.raises(ConfigError, match="use 2, 3, 4, 6 workers"):
        world_sizes(config(24), Bounds(5, 5))


@given(st.sets(st.integers(1, 64), min_size=1), st.integers(0, 80))
def test_largest(sizes, free):
    got = largest(sorted(sizes), free)
    assert got == 0 or (got in sizes and got <= free)
    assert not any(got < size <= free for size in sizes)


def test_ranks_by_node_and_number():
    places = [
        AgentHost("b", "10.0.0.10"),
        AgentHost("a", "10.0.0.9"),
        AgentHost("b", "10.0.0.10"),
        AgentHost("a", "10.0.0.9"),
    ]
    order = rank_order(places)
    assert order == [1, 3, 0, 2]
    environments = rank_environments([places[i] for i in order], 5000)
    assert [(e["RANK"], e["LOCAL_RANK"], e["GROUP_RANK"]) for e in environments] == [
        ("0", "0", "0"),
        ("1", "1", "0"),
        ("2", "0", "1"),
        ("3", "1", "1"),
    ]
    assert {(e["MASTER_ADDR"], e["MASTER_PORT"], e["WORLD_SIZE"]) for e in environments} == {("10.0.0.9", "5000", "4")}


def test_a_worker_with_one_gpu_of_its_own_calls_it_0():
    places = [AgentHost("a", "10.0.0.1", gpus=1)] * 2
    assert [e["LOCAL_RANK"] for e in rank_environments(places, 1)] == ["0", "0"]
