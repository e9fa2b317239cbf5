"""The private attributes of DeepSpeed that `zero.py` reads; what it does with them is in tests/dist."""

import inspect
from types import SimpleNamespace

import pytest
import torch

from fra_dist.distributed import SINGLE, RankContext
from fra_dist.errors import CheckpointError, ConfigError
from fra_dist.train.engines.zero import PRIVATE, Partition


@pytest.fixture(scope="module")
def source() -> str:
    from fra_dist.train.engines.deepspeed_engine import _import_deepspeed

    _import_deepspeed(torch.device("cpu"))
    from deepspeed.runtime.zero import stage_1_and_2

    return inspect.getsource(stage_1_and_2)


@pytest.mark.parametrize("name", PRIVATE)
def test_deepspeed_still_has_it(source: str, name: str) -> None:
    assert f"self.{name} = " in source or f"def {name}(" in source


def context(rank: int, world: int) -> RankContext:
    return RankContext(rank, world, rank, 0, torch.device("cpu"), SINGLE)


def two_groups(rank: int, world: int) -> tuple[Partition, list[torch.Tensor]]:
    """What DeepSpeed makes of groups of 7 + 2 and of 3 numbers, on one of `world` ranks."""
    zero, names, shares = SimpleNamespace(averaged_gradients={}, refresh_fp32_params=None), {}, []
    zero.bit16_groups, zero.bit16_groups_flat = [], []
    for group, counts in enumerate(([7, 2], [3])):
        size = -(-sum(counts) // world)
        flat = torch.zeros(size * world)
        parameters = [torch.nn.Parameter(torch.empty(0)) for _ in counts]
        for number, (p, part) in enumerate(
            zip(parameters, flat.split([*counts, size * world - sum(counts)]), strict=False)
        ):
            p.data = part
            names[p] = f"{group}.{number}"
        zero.bit16_groups.append(parameters)
        zero.bit16_groups_flat.append(flat)
        shares.append(torch.nn.Parameter(flat[rank * size : (rank + 1) * size].clone()))
    zero.single_partition_of_fp32_groups = shares
    return Partition(zero, names, context(rank, world)), shares


@pytest.mark.parametrize("world", [1, 2, 3, 4])
def test_whole_tensors_are_dealt_out_without_gap_or_overlap(world: int) -> None:
    wholes = {"0.0/m": torch.arange(1.0, 8), "0.1/m": torch.tensor([8.0, 9]), "1.0/m": torch.tensor([1.0, 2, 3])}
    counts = {name.replace("/m", "/step"): torch.tensor(5.0) for name in wholes}
    dealt: list[list[torch.Tensor]] = [[], []]
    for rank in range(world):
        partition, shares = two_groups(rank, world)
        optimizer = torch.optim.SGD(shares, lr=0.1)
        partition.scatter(optimizer, {**wholes, **counts})
        for group, share in enumerate(shares):
            dealt[group].append(optimizer.state[share]["m"])
            assert optimizer.state[share]["step"] == 5
        if world == 1:
            gathered = partition.gather(optimizer)
            assert gathered.keys() == {**wholes, **counts}.keys()
            assert all(torch.equal(gathered[name], value) for name, value in {**wholes, **counts}.items())
    assert torch.cat(dealt[0])[:9].tolist() == list(range(1, 10))
    assert torch.cat(dealt[1])[:3].tolist() == [1, 2, 3]
    assert not torch.cat([torch.cat(dealt[0])[9:], torch.cat(dealt[1])[3:]]).any()


def test_state_of_another_model_and_another_deepspeed_are_refused() -> None:
    partition, shares = two_groups(0, 2)
    with pytest.raises(CheckpointError, match=r"other\.weight has no parameter"):
        partition.scatter(torch.optim.SGD(shares, lr=0.1), {"other.weight/m": torch.zeros(2)})
    with pytest.raises(ConfigError, match=r"has no SimpleNamespace\.bit16_groups"):
        Partition(SimpleNamespace(), {}, context(0, 1))
