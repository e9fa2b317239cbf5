"""What the environment variables say about this process: its rank, where ranks meet, which launch it belongs to.

This is the only file that reads rank variables. It imports neither torch nor anything else that is slow, because every
launcher process uses it too.
"""

import os
import platform
import re
import zlib
from collections.abc import Mapping
from dataclasses import dataclass

from fra_dist.errors import LaunchError

LAUNCH, ATTEMPT = "FRA_DIST_LAUNCH", "FRA_DIST_ATTEMPT"
_PORTS = range(10_000, 32_000)  # below the range that client sockets take

_SCHEMES = {
    "torchrun": ("RANK", "WORLD_SIZE", "LOCAL_RANK", "GROUP_RANK"),
    "slurm": ("SLURM_PROCID", "SLURM_NTASKS", "SLURM_LOCALID", "SLURM_NODEID"),
    # mpirun of Open MPI, IBM Spectrum MPI; of MVAPICH; of MPICH and Intel MPI; of Cray. None of them numbers the nodes.
    "Open MPI": ("OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_LOCAL_RANK", ""),
    "MVAPICH": ("MV2_COMM_WORLD_RANK", "MV2_COMM_WORLD_SIZE", "MV2_COMM_WORLD_LOCAL_RANK", ""),
    "MPICH": ("PMI_RANK", "PMI_SIZE", "MPI_LOCALRANKID", ""),
    "PALS": ("PMI_RANK", "PMI_SIZE", "PMI_LOCAL_RANK", ""),
}
_MPI = ("Open MPI", "MVAPICH", "MPICH", "PALS")
_LOCAL_SIZES = ("OMPI_COMM_WORLD_LOCAL_SIZE", "MV2_COMM_WORLD_LOCAL_SIZE", "MPI_LOCALNRANKS", "PMI_LOCAL_SIZE")
_MPI_JOBS = ("PMIX_NAMESPACE", "OMPI_MCA_ess_base_jobid", "MV2_COMM_WORLD_JOBID", "PMI_JOBID", "PMI_PORT", "PALS_APID")


@dataclass(frozen=True)
class LaunchName:
    """Which launch started this process.

    A numbered attempt may take the run folder over from an earlier one of its launch.
    """

    name: str
    """The name of the launch, such as "slurm job 812"."""
    attempt: int | None = None
    """The number of the attempt within the launch; None when the launcher does not count attempts."""


def read_ranks(env: Mapping[str, str]) -> tuple[int, int, int, int]:
    """Return (rank, world, local rank, node) as torchrun, SLURM or mpirun say; (0, 1, 0, 0) when none of them does.

    A SLURM allocation counts only inside a job step (`srun`), where SLURM_STEP_ID is set and is not the batch script.
    Raises LaunchError on an incomplete or impossible set.
    """
    scheme = _scheme(env)
    if scheme is None:
        if "PMIX_RANK" in env and not ("SLURM_PROCID" in env or "OMPI_COMM_WORLD_SIZE" in env):
            raise LaunchError(
                "PMIX_RANK is set, but nothing says how many ranks there are: start with mpirun, srun or "
                "`fra-dist launch torchrun`; to train alone, unset PMIX_RANK"
            )
        return 0, 1, 0, 0
    names = _SCHEMES[scheme]
    try:
        rank, world = int(env[names[0]]), _slurm_tasks(env) if scheme == "slurm" else int(env[names[1]])
        local = int(env[names[2]] if scheme in _MPI else env.get(names[2], "0"))
        node = rank // (_local_size(env) or world) if scheme in _MPI else int(env.get(names[3], "0"))
    except (KeyError, ValueError) as error:
        raise LaunchError(
            f"the {scheme} environment is incomplete: {error} (it needs {', '.join(names[:3])})"
        ) from None
    if not 0 <= rank < world:
        raise LaunchError(f"{names[0]}={rank} is not below {names[1]}={world}")
    return rank, world, local, node


def _scheme(env: Mapping[str, str]) -> str | None:
    """Name the scheme that counts. Of mpirun's daemons, which srun may have started, SLURM's variables tell nothing."""
    if "RANK" in env or "WORLD_SIZE" in env:
        return "torchrun"
    found = [name for name in _MPI if env.get(_SCHEMES[name][1], "1") != "1"]
    whole = next((name for name in found if _SCHEMES[name][2] in env), None)
    if whole is not None:
        return whole
    if in_slurm_step(env) and _slurm_tasks(env) > 1:
        return "slurm"
    return found[0] if found else None


def _local_size(env: Mapping[str, str]) -> int:
    """Return the number of ranks on this node, as mpirun says; 0 when it does not."""
    text = next((env[name] for name in _LOCAL_SIZES if name in env), "")
    return int(text) if text.isdigit() else 0


def in_slurm_step(env: Mapping[str, str]) -> bool:
    """Whether this process was started by `srun`, as part of a job step."""
    return env.get("SLURM_STEP_ID", "").isdigit() and "SLURM_PROCID" in env


def read_rendezvous(env: Mapping[str, str]) -> tuple[str, int] | None:
    """Return (address, port) of rank 0: MASTER_ADDR and MASTER_PORT or, in a SLURM step, derived from the step.

    The port depends on job, restart and step, so that neither a neighbour's job nor the attempt before uses it. The
    ranks of an mpirun on one machine meet there, at a port derived from its job. None when nothing is known.
    Raises LaunchError when MASTER_PORT is not a port or the node list cannot be read.
    """
    address, port = env.get("MASTER_ADDR"), env.get("MASTER_PORT")
    if address and port:
        if not port.isdigit() or not 0 < int(port) < 65536:
            raise LaunchError(f"MASTER_PORT={port} is not a port number")
        return address, int(port)
    if _scheme(env) in _MPI:
        job_name = next((env[name] for name in _MPI_JOBS if env.get(name)), str(os.getppid()))
        here = "127.0.0.1", _PORTS[zlib.crc32(job_name.encode()) % len(_PORTS)]
        return here if _local_size(env) == read_ranks(env)[1] else None
    nodes = env.get("SLURM_STEP_NODELIST") or env.get("SLURM_JOB_NODELIST")
    if not in_slurm_step(env) or not nodes:
        return None
    job, step = int(env.get("SLURM_JOB_ID", "0")), int(env["SLURM_STEP_ID"])
    restart = int(env.get("SLURM_RESTART_COUNT", "0"))
    return first_host(nodes), _PORTS[(job * 131 + restart * 17 + step) % len(_PORTS)]


def first_host(nodes: str) -> str:
    """Return the first host of a SLURM node list, as in `gpu[003-004,9],login` -> `gpu003`.

    Brackets may be anywhere: `rack[1-2]node[01-04]` gives `rack1node01`. Raises LaunchError when the list cannot be
    read.
    """
    match = re.match(r"(?:[^\[\],\s]|\[[\w,-]+\])+(?=,|$)", nodes)
    if match is None:
        raise LaunchError(f"cannot read the node list {nodes!r}: set MASTER_ADDR and MASTER_PORT instead")
    return re.sub(r"\[(\w+)[\w,-]*\]", r"\1", match[0])


def several_nodes(env: Mapping[str, str]) -> bool:
    """Whether the environment says that the ranks are on more than one machine."""
    local = env.get("LOCAL_WORLD_SIZE", "")
    if local.isdigit() and env.get("WORLD_SIZE", "").isdigit():
        return int(env["WORLD_SIZE"]) > int(local)
    if _scheme(env) in _MPI:
        return _local_size(env) not in (0, read_ranks(env)[1])  # 0: it is not known
    nodes = (env.get("SLURM_STEP_NUM_NODES") or env.get("SLURM_NNODES") or "1") if in_slurm_step(env) else "1"
    return nodes.isdigit() and int(nodes) > 1


def read_launch(env: Mapping[str, str]) -> LaunchName:
    """Name the launch that this process is part of.

    It is one of fra-dist's launchers, SLURM, torchrun, mpirun, or this process alone.
    """
    if LAUNCH in env:
        number = env.get(ATTEMPT, "")
        return LaunchName(env[LAUNCH], int(number) if number.isdigit() else None)
    if in_slurm_step(env):
        return LaunchName(f"slurm job {env.get('SLURM_JOB_ID')}")
    if env.get("TORCHELASTIC_RUN_ID", "none") != "none":
        return LaunchName(f"torchrun {env['TORCHELASTIC_RUN_ID']}")
    if any(_SCHEMES[name][1] in env for name in _MPI):
        job = next((env[name] for name in _MPI_JOBS if env.get(name)), None)
        if job is not None:
            return LaunchName(f"mpirun {job}")
    return LaunchName(f"process {os.getpid()} on {platform.node()}")


def _slurm_tasks(env: Mapping[str, str]) -> int:
    """Return the tasks of the job step, which may be fewer than those of the allocation (SLURM_NTASKS)."""
    text = env.get("SLURM_STEP_NUM_TASKS") or env.get("SLURM_NTASKS") or "1"
    return int(text) if text.isdigit() else 1
