"""Kernel launches and host synchronisations of a step, counted by the profiler, and its collectives."""

from collections import Counter
from collections.abc import Callable
from typing import Any

import torch
import torch.distributed as dist
from torch.autograd import DeviceType
from torch.profiler import ProfilerActivity, profile, record_function

from fra_dist.distributed import ProcessGroupRanks

_SPAN = "the step"
_LAUNCHES = ("cudaLaunchKernel", "cuLaunchKernel", "cudaGraphLaunch", "cudaMemcpyAsync", "cudaMemsetAsync")
_WAITS = ("cudaDeviceSynchronize", "cudaStreamSynchronize", "cudaEventSynchronize", "cudaMemcpy")


def requests(run: Callable[[], Any], device: torch.device) -> dict[str, int]:
    """Of one call of `run`, which should be warm.

    `operations`: of PyTorch, innermost ones. On a GPU also `launches` by the host (kernels, graphs, copies),
    `outside_convolutions` of them, `waits` of the host for the device, and `kernels` that ran on the device.
    """
    gpu = device.type == "cuda"
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if gpu else [])]
    with profile(activities=activities, acc_events=True) as profiler:
        with record_function(_SPAN):
            run()
        if gpu:
            torch.cuda.synchronize()
    events = profiler.events() or []
    span = next(event.time_range for event in events if event.name == _SPAN and event.device_type == DeviceType.CPU)
    host = [e for e in events if e.device_type == DeviceType.CPU and span.start <= e.time_range.start <= span.end]
    found = {"operations": sum(e.name.startswith("aten::") and not e.cpu_children for e in host)}
    if gpu:
        launches = sum(e.name.startswith(_LAUNCHES) for e in host)
        in_convolutions = sum(len(e.kernels) for e in host if "convolution" in e.name)
        waits = sum(e.name in _WAITS for e in host)
        kernels = sum(e.device_type == DeviceType.CUDA and e.name != _SPAN for e in events)
        found |= {"launches": launches, "outside_convolutions": launches - in_convolutions}
        found |= {"waits": waits, "kernels": kernels}
    return found


def collectives_of(run: Callable[[], Any]) -> dict[str, int]:
    """Collectives of one call of `run` by kind."""
    with profile(activities=[ProfilerActivity.CPU], acc_events=True) as profiler:
        run()
    names = Counter(event.name for event in profiler.events() or [])
    return {name.removeprefix("c10d::"): count for name, count in names.items() if name.startswith("c10d::")}


class PretendedRanks(ProcessGroupRanks):
    """A group of one that says it is `world` ranks: every collective is made, and changes nothing."""

    def __init__(self, world: int) -> None:
        self._world = world
        dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)

    @property
    def world(self) -> int:
        return self._world
