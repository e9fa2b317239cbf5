"""Which GPU a rank takes, and whether it was promised one that torch cannot use.

A driver that is too old for the CUDA version of the torch wheels looks to torch like a machine without a GPU. A run
that took the CPU there would hold the allocation and take weeks, so it is an error.
"""

import errno
import os
from collections.abc import Mapping
from pathlib import Path

import torch

from fra_dist.errors import LaunchError

_LISTS = ("SLURM_STEP_GPUS", "SLURM_JOB_GPUS")
_COUNT = "SLURM_GPUS_ON_NODE"
_HIDDEN = ("", "-1", "NoDevFiles")
"""Values of CUDA_VISIBLE_DEVICES that hide every GPU; SLURM sets the last for steps that were given none."""


def gpu_of_rank(local: int, visible: int, env: Mapping[str, str]) -> int:
    """Return the number of the GPU that the rank with number `local` on its node takes, of `visible` GPUs.

    It is `local`, unless SLURM shows each task only GPUs of its own (`srun --gpus-per-task=1`): then it is the first.
    Raises LaunchError when there are more ranks than GPUs.
    """
    if local < visible:
        return local
    on_node = env.get(_COUNT, "")
    if env.get("SLURM_GPUS_PER_TASK") or (on_node.isdigit() and int(on_node) > visible):
        return 0
    raise LaunchError(
        f"local rank {local} has no GPU of its own: {visible} visible on this node; start as many ranks as GPUs"
    )


def refuse_unusable_gpu(env: Mapping[str, str], devices: Path = Path("/dev")) -> None:
    """Raise LaunchError, with torch's reason, if there are signs of a GPU although torch can use none.

    Called when `train.device` is auto and CUDA is not available. Hiding the GPUs by CUDA_VISIBLE_DEVICES is a wish
    for the CPU. `devices` is the folder of device files.
    """
    sign = sign_of_gpu(env, devices)
    if sign is not None:
        raise LaunchError(
            f"{sign}, but torch cannot use a GPU: {why_no_cuda()}; fix that, or set train.device=cpu to train on the "
            f"CPU"
        )


def sign_of_gpu(env: Mapping[str, str], devices: Path = Path("/dev")) -> str | None:
    """Return in words what says that this process has a GPU: an allocation, or a device file; None if nothing does.

    A device file that a job's cgroup forbids to open is another job's GPU and does not count.
    """
    if env.get("CUDA_VISIBLE_DEVICES", "all").strip() in _HIDDEN:
        return None
    allocated = [name for name in _LISTS if env.get(name)]
    allocated += [_COUNT] if env.get(_COUNT, "") not in ("", "0") else []
    if allocated:
        return f"SLURM allocated a GPU ({allocated[0]}={env[allocated[0]]})"
    for path in sorted(devices.glob("nvidia[0-9]*")):
        if _may_be_opened(path):
            return f"{path} is here"
    return None


def why_no_cuda() -> str:
    """Return torch's own reason why it cannot use CUDA, with the CUDA version that it was built for."""
    built = f"torch {torch.__version__} was built for CUDA {torch.version.cuda}"
    if torch.version.cuda is None:
        return f"torch {torch.__version__} was built without CUDA"
    try:
        torch.cuda.init()
    except (RuntimeError, AssertionError) as error:
        return f"{' '.join(str(error).split())[:240].rstrip('.')} ({built})"
    return f"no CUDA device is visible ({built})"


def _may_be_opened(path: Path) -> bool:
    try:
        os.close(os.open(path, os.O_RDWR | os.O_CLOEXEC))
    except OSError as error:
        return error.errno != errno.EPERM
    return True
