"""Where this process stands among its peers: the only file that reads rank environment variables."""

import os
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta

import torch
import torch.distributed as dist

from fra_dist.dist.collectives import SINGLE, CrossRank, ProcessGroupRanks
from fra_dist.errors import LaunchError


@dataclass(frozen=True)
class RankContext:
    """The topology as a value. `rank` counts all processes, `local_rank` those of this node."""

    rank: int
    world: int
    local_rank: int
    node: int
    device: torch.device
    cross: CrossRank

    @property
    def is_main(self) -> bool:
        return self.rank == 0


_SCHEMES = {
    "torchrun": ("RANK", "WORLD_SIZE", "LOCAL_RANK", "GROUP_RANK"),
    "slurm": ("SLURM_PROCID", "SLURM_NTASKS", "SLURM_LOCALID", "SLURM_NODEID"),
}


def read_ranks(env: Mapping[str, str]) -> tuple[int, int, int, int]:
    """(rank, world, local rank, node) from torchrun's or SLURM's variables; (0, 1, 0, 0) when there are none.

    A SLURM allocation counts only inside a job step (`srun`), where SLURM_STEP_ID is set and is not the batch script.
    Raises LaunchError on an incomplete or impossible set.
    """
    scheme = None
    if "RANK" in env or "WORLD_SIZE" in env:
        scheme = "torchrun"
    elif env.get("SLURM_STEP_ID", "").isdigit() and int(env.get("SLURM_NTASKS", "1")) > 1:
        scheme = "slurm"
    if scheme is None:
        return 0, 1, 0, 0
    names = _SCHEMES[scheme]
    try:
        rank, world = int(env[names[0]]), int(env[names[1]])
        local, node = int(env.get(names[2], "0")), int(env.get(names[3], "0"))
    except (KeyError, ValueError) as error:
        raise LaunchError(f"the {scheme} environment is incomplete: {error} (it needs {', '.join(names[:3])})") from None
    if not 0 <= rank < world:
        raise LaunchError(f"{names[0]}={rank} is not below {names[1]}={world}")
    return rank, world, local, node


def start(device: str = "auto", timeout_minutes: float = 10.0) -> RankContext:
    """Join the process group that the environment describes (gloo on the CPU, NCCL on GPUs) and say who we are.

    A single process joins a group of one on a free loopback port, so that one code path serves every size.
    Raises LaunchError when the GPU asked for is not there or the rendezvous fails.
    """
    rank, world, local, node = read_ranks(os.environ)
    place = _device(device, local)
    if not dist.is_initialized():
        if world == 1:
            os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(_free_port()))
        os.environ.update(RANK=str(rank), WORLD_SIZE=str(world), LOCAL_RANK=str(local))
        if "MASTER_ADDR" not in os.environ or "MASTER_PORT" not in os.environ:
            raise LaunchError(f"{world} ranks need MASTER_ADDR and MASTER_PORT in the environment to meet")
        try:
            dist.init_process_group(
                "nccl" if place.type == "cuda" else "gloo", timeout=timedelta(minutes=timeout_minutes)
            )
        except (RuntimeError, ValueError) as error:
            raise LaunchError(
                f"rank {rank} of {world} could not meet the others at "
                f"{os.environ['MASTER_ADDR']}:{os.environ['MASTER_PORT']}: {error}"
            ) from error
    cross = ProcessGroupRanks() if world > 1 else SINGLE
    return RankContext(rank, world, local, node, place, cross)


def stop() -> None:
    """Leave the process group, if there is one."""
    if dist.is_initialized():
        dist.destroy_process_group()


def barrier() -> None:
    """Wait for every rank."""
    if dist.is_initialized() and dist.get_world_size() > 1:
        dist.barrier()


def agree_any(flag: bool, device: torch.device) -> bool:
    """True on every rank when it is true on at least one."""
    if not dist.is_initialized() or dist.get_world_size() == 1:
        return flag
    value = torch.tensor([int(flag)], device=device)
    dist.all_reduce(value, op=dist.ReduceOp.MAX)
    return bool(value.item())


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


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
