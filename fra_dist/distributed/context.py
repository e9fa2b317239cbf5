"""Where this process stands among its peers; `fra_dist.distributed.environment` reads the environment."""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist

from fra_dist.distributed.collective_waits import WAITS
from fra_dist.distributed.collectives import ProcessGroupRanks
from fra_dist.distributed.environment import read_ranks, read_rendezvous
from fra_dist.errors import FraError, LaunchError, RendezvousError
from fra_dist.types import SINGLE, CrossRank

T = TypeVar("T")


@dataclass(frozen=True)
class RankContext:
    """The topology as a value. `rank` counts all processes, `local_rank` those of this node."""

    rank: int
    world: int
    local_rank: int
    node: int
    device: torch.device
    cross: CrossRank
    control: dist.ProcessGroup | None = None
    """A gloo group for decisions of the hosts, so that they do not wait for a GPU; None: the default group."""

    @property
    def is_main(self) -> bool:
        return self.rank == 0

    def agree_any(self, *flags: bool) -> list[bool]:
        """For each flag, true on every rank when it is true on at least one. One small exchange between the hosts."""
        if self.world == 1:
            return list(flags)
        votes = torch.tensor(flags, dtype=torch.uint8)
        with WAITS.around(votes.device):
            dist.all_reduce(votes, op=dist.ReduceOp.MAX, group=self.control)
        return votes.bool().tolist()

    def meet(self) -> None:
        """Wait for every rank, on the host; a part of the step that one rank works in and the others do not."""
        if self.world > 1:
            dist.barrier(group=self.control)

    def gather(self, values: Sequence[float]) -> list[list[float]]:
        """The values of each rank, by rank, on every rank: equally many everywhere. One exchange between the hosts."""
        if self.world == 1:
            return [list(values)]
        rows = [torch.empty(len(values), dtype=torch.float64) for _ in range(self.world)]
        dist.all_gather(rows, torch.tensor(values, dtype=torch.float64), group=self.control)
        return [row.tolist() for row in rows]


def start(device: str = "auto", timeout_minutes: float = 10.0) -> RankContext:
    """Join the process group that the environment describes (gloo on the CPU, NCCL on GPUs) and say who we are.

    A single process joins a group of one without opening a port, so that one code path serves every size.
    Raises LaunchError when the GPU asked for is not there or the rendezvous fails.
    """
    rank, world, local, node = read_ranks(os.environ)
    place = _device(device, local)
    if not dist.is_initialized():
        os.environ.update(RANK=str(rank), WORLD_SIZE=str(world), LOCAL_RANK=str(local))  # DeepSpeed reads them
        _join("nccl" if place.type == "cuda" else "gloo", rank, world, timedelta(minutes=timeout_minutes))
    cross = ProcessGroupRanks() if world > 1 else SINGLE
    control = dist.new_group(backend="gloo") if world > 1 and place.type == "cuda" else None
    return RankContext(rank, world, local, node, place, cross, control)


def stop() -> None:
    """Leave the process group, if there is one."""
    if dist.is_initialized():
        dist.destroy_process_group()


def barrier() -> None:
    """Wait for every rank."""
    if dist.is_initialized() and dist.get_world_size() > 1:
        dist.barrier()


def from_main(produce: Callable[[], T]) -> T:
    """What `produce` returns on rank 0, on every rank; an error that it raises there is raised on every rank.

    The value must be picklable. A refusal, or a disk that fails, ends all ranks and leaves none waiting.
    """
    if not dist.is_initialized() or dist.get_world_size() == 1:
        return produce()
    box: list[object] = [None, None]
    if dist.get_rank() == 0:
        try:
            box[0] = produce()
        except (FraError, OSError) as error:
            box[1] = error
    dist.broadcast_object_list(box, src=0)
    if isinstance(box[1], FraError | OSError):
        raise box[1]
    return box[0]  # type: ignore[return-value]


def from_all(value: T) -> list[T]:
    """The value of every rank, by rank, on every rank. It must be picklable. Used at start-up; every rank calls it."""
    if not dist.is_initialized() or dist.get_world_size() == 1:
        return [value]
    values: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(values, value)
    return values


def _device(wanted: str, local: int) -> torch.device:
    if wanted == "cpu" or (wanted == "auto" and not torch.cuda.is_available()):
        return torch.device("cpu")
    count = torch.cuda.device_count()
    if count == 0:
        raise LaunchError("train.device=cuda, but no CUDA device is visible: use train.device=cpu or auto")
    if local >= count:
        raise LaunchError(f"local rank {local} has no GPU of its own: {count} visible on this node")
    torch.cuda.set_device(local)
    return torch.device("cuda", local)


def _join(backend: str, rank: int, world: int, timeout: timedelta) -> None:
    if world == 1:
        dist.init_process_group(backend, store=dist.HashStore(), rank=0, world_size=1, timeout=timeout)
        return
    place = read_rendezvous(os.environ)
    if place is None:
        raise LaunchError(f"{world} ranks need MASTER_ADDR and MASTER_PORT in the environment to meet")
    os.environ.update(MASTER_ADDR=place[0], MASTER_PORT=str(place[1]))
    try:
        dist.init_process_group(backend, rank=rank, world_size=world, timeout=timeout)
    except (RuntimeError, ValueError) as error:
        text = " ".join(str(error).split())[:300]
        raise RendezvousError(
            f"rank {rank} of {world} could not meet the others at {place[0]}:{place[1]}: {text}"
        ) from None
