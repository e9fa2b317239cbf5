"""What is measured on a CPU once and kept for later starts: by whom it holds, where it is kept, how it is timed."""

import os
import platform
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from fra_dist.errors import AccessError

ROUNDS = 3
"""How often each way is timed."""


def machine() -> str:
    """What a measurement holds for: the CPU and what it computes in, PyTorch, and the number of threads."""
    threads = torch.get_num_threads()
    arithmetic = [torch.backends.cpu.get_cpu_capability()]
    arithmetic += ["bf16"] if torch.cpu._is_avx512_bf16_supported() else []
    arithmetic += ["AMX"] if torch.cpu._is_amx_tile_supported() else []
    limit = os.environ.get("ONEDNN_MAX_CPU_ISA")
    arithmetic += [f"at most {limit}"] if limit else []
    words = [_cpu_name(), "+".join(arithmetic), f"torch {torch.__version__}"]
    return ", ".join([*words, f"{threads} thread{'' if threads == 1 else 's'}"])


def cache_path(kind: str) -> Path:
    """The file of the measurements of a kind for this machine, in $FRA_DIST_CACHE or the user's cache folder.

    Raises AccessError for a user without a home.
    """
    named = os.environ.get("FRA_DIST_CACHE")
    home = Path(named) if named else Path(os.environ.get("XDG_CACHE_HOME") or _home() / ".cache") / "fra_dist"
    name = "".join(c if c.isalnum() or c in ".+" else "_" for c in machine())
    return home / kind / f"{name}.json"


def times(*ways: Callable[[], Any]) -> list[float]:
    """Seconds of each way, run in turn: the least of three rounds, after one that plans and allocates.

    One thread is timed by the processor, which other load disturbs least.
    """
    clock = time.thread_time if torch.get_num_threads() == 1 else time.perf_counter
    seconds: list[list[float]] = [[] for _ in ways]
    for number in range(ROUNDS + 1):
        for run, found in zip(ways, seconds, strict=True):
            start = clock()
            run()
            if number:
                found.append(clock() - start)
    return [min(found) for found in seconds]


def _home() -> Path:
    try:
        return Path.home()
    except RuntimeError as error:  # a user without a name and a home
        raise AccessError(f"{error} Set HOME or FRA_DIST_CACHE") from None


def _cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()
