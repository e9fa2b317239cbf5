"""The place of this process among the ranks, and the collectives of the hosts; `environment` reads the variables."""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import TypeVar

import torch
import torch.distributed as dist

from fra_dist.distributed import messages
from fra_dist.distributed.collective_waits import WAITS
from fra_dist.distributed.collectives import ProcessGroupRanks
from fra_dist.distributed.environment import read_ranks, read_rendezvous, several_nodes
from fra_dist.distributed.gpus import gpu_of_rank, refuse_unusable_gpu, why_no_cuda
from fra_dist.distributed.interface import choose_interface, listen_at, only_here
from fra_dist.errors import FraError, LaunchError, RendezvousError
from fra_dist.files import failure
from fra_dist.types import SINGLE, CrossRank

T = TypeVar("T")
_LOOPBACK_PATIENCE = timedelta(minutes=1)


@dataclass(frozen=True)
class RankContext:
    """The topology of a run, as this process sees it. It is a value: it does not change after `start`."""

    rank: int
    """The number of this process among all processes of the run, from 0."""
    world: int
    """The number of processes of the run."""
    local_rank: int
    """The number of this process among those of its node, from 0; on a GPU machine it chooses the device."""
    node: int
    """The number of this node, from 0."""
    device: torch.device
    """The device that this rank computes on."""
    cross: CrossRank
    """Differentiable sums, means and gathers over the ranks, as models and losses use them."""
    control: dist.ProcessGroup | None = None
    """A gloo group for decisions of the hosts, so that they need not wait for a GPU; None: the default group serves."""

    @property
    def is_main(self) -> bool:
        """Whether this is rank 0, which writes what the run leaves on disk."""
        return self.rank == 0

    def agree_any(self, *flags: bool) -> list[bool]:
        """For each flag, whether it is true on at least one rank; the answer is the same on every rank.

        One small collective between the hosts.
        """
        if self.world == 1:
            return list(flags)
        votes = torch.tensor(flags, dtype=torch.uint8)
        with WAITS.around(votes.device):
            dist.all_reduce(votes, op=dist.ReduceOp.MAX, group=self.control)
        return votes.bool().tolist()

    def meet(self) -> None:
        """Wait on the host until every rank has arrived here: a barrier around work that only some of the ranks do."""
        if self.world > 1:
            dist.barrier(group=self.control)

    def gather(self, values: Sequence[float]) -> list[list[float]]:
        """Give every rank the values of all ranks, as rows in the order of ranks; each rank gives equally many.

        One collective between the hosts.
        """
        if self.world == 1:
            return [list(values)]
        rows = [torch.empty(len(values), dtype=torch.float64) for _ in range(self.world)]
        dist.all_gather(rows, torch.tensor(values, dtype=torch.float64), group=self.control)
        return [row.tolist() for row in rows]


def start(device: str = "auto", timeout_minutes: float = 10.0) -> RankContext:
    """Join the process group that the environment describes and return this rank's context.

    The backend is gloo on the CPU and NCCL on GPUs. `device` is auto, cpu or cuda; `timeout_minutes` is how long a
    collective may take. A single process joins a group of one without opening a port, so that one code path serves
    every size. Raises LaunchError when the requested GPU is not there, and RendezvousError when the ranks cannot meet.
    """
    rank, world, local, node = read_ranks(os.environ)
    place = _device(device, local)
    if not dist.is_initialized():
        _join(place, rank, world, timedelta(minutes=timeout_minutes))
        os.environ.update(RANK=str(rank), WORLD_SIZE=str(world), LOCAL_RANK=str(local))  # DeepSpeed reads them
    cross = ProcessGroupRanks() if world > 1 else SINGLE
    control = dist.new_group(backend="gloo") if world > 1 and place.type == "cuda" else None
    return RankContext(rank, world, local, node, place, cross, control)


def stop() -> None:
    """Leave the default process group and release it; does nothing when this process is in none."""
    if dist.is_initialized():
        dist.destroy_process_group()


def barrier() -> None:
    """Wait until every rank of the default process group has arrived here."""
    if dist.is_initialized() and dist.get_world_size() > 1:
        dist.barrier()


def from_main(produce: Callable[[], T]) -> T:
    """Call `produce` on rank 0 and return its value on every rank.

    An error that it raises on rank 0 is raised on every rank, so that none is left waiting; an OSError becomes a
    DiskError or an AccessError. The value is one that `messages` can send.
    """
    if not dist.is_initialized() or dist.get_world_size() == 1:
        return produce()
    value: T | FraError | None = None
    if dist.get_rank() == 0:
        try:
            value = produce()
        except FraError as error:
            value = error
        except OSError as error:
            value = failure(error, f"rank 0 cannot use {error.filename or 'a file'}")
    told = messages.broadcast(messages.to_bytes(value) if dist.get_rank() == 0 else b"")
    if dist.get_rank() != 0:
        value = messages.from_bytes(told)
    if isinstance(value, FraError):
        raise value
    return value  # type: ignore[return-value]


def from_all(value: T) -> list[T]:
    """Return the values of all ranks, in the order of ranks, on every rank.

    A collective for start-up and rare events. The values are ones that `messages` can send.
    """
    if not dist.is_initialized() or dist.get_world_size() == 1:
        return [value]
    return [messages.from_bytes(data) for data in messages.all_gather(messages.to_bytes(value))]


def _device(wanted: str, local: int) -> torch.device:
    if wanted == "cpu":
        return torch.device("cpu")
    if wanted == "auto" and not torch.cuda.is_available():
        refuse_unusable_gpu(os.environ)
        return torch.device("cpu")
    count = torch.cuda.device_count()
    if count == 0:
        raise LaunchError(f"train.device=cuda, but torch cannot use one: {why_no_cuda()}; or set train.device=cpu")
    number = gpu_of_rank(local, count, os.environ)
    torch.cuda.set_device(number)
    return torch.device("cuda", number)


def _store(host: str, port: int, rank: int, world: int, timeout: timedelta, several: bool = False) -> dist.Store:
    """The store through which the ranks meet: torchrun's agent keeps one, else rank 0 does.

    It listens at the one address of rank 0 that the others use; torch's own choice would be all of its addresses.
    Where that address is one that only its own machine reaches, ranks on several nodes wait for it a minute at most.
    """
    patience = min(timeout, _LOOPBACK_PATIENCE) if several and only_here(host) else timeout
    if os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True":
        attempt = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
        agents = dist.TCPStore(host, port, world, False, patience, multi_tenant=True)
        agents.set_timeout(timeout)
        return dist.PrefixStore(f"/worker/attempt_{attempt}", agents)
    listening = listen_at(host, port, several) if rank == 0 else None
    store = dist.TCPStore(host, port, world, rank == 0, timeout if rank == 0 else patience, master_listen_fd=listening)
    store.set_timeout(timeout)
    return store


def _join(device: torch.device, rank: int, world: int, timeout: timedelta) -> None:
    backend = "nccl" if device.type == "cuda" else "gloo"
    if world == 1:
        dist.init_process_group(backend, store=dist.HashStore(), rank=0, world_size=1, timeout=timeout)
        return
    place = read_rendezvous(os.environ)
    if place is None:
        raise LaunchError(f"{world} ranks need MASTER_ADDR and MASTER_PORT in the environment to meet")
    os.environ.update(MASTER_ADDR=place[0], MASTER_PORT=str(place[1]))
    several = several_nodes(os.environ)
    try:
        store = _store(*place, rank, world, timeout, several)
        if several:
            choose_interface(place[0], store, rank, world)
        # the GPU of the group, so that NCCL connects here, where an error is a line, and never guesses the device
        bound = device if device.type == "cuda" else None
        dist.init_process_group(backend, store=store, rank=rank, world_size=world, timeout=timeout, device_id=bound)
    except (RuntimeError, ValueError, OSError) as error:
        text = " ".join(str(error).split())[:300]
        if several and only_here(place[0]):
            text = f"{only_here(place[0])} ({text})"
        raise RendezvousError(
            f"rank {rank} of {world} could not meet the others at {place[0]}:{place[1]}: {text}"
        ) from None
