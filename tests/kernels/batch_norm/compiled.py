"""Run by the tests in a process of its own; see `compiling.py`. Arguments: capability (90), dtype, map side, C."""

import json
import sys
from typing import Any

import torch

from tests.kernels.compiling import Report, compile_instead, count, narrow

ON_RANKS = ("moments_kernel", "transform_kernel", "sums_kernel", "gradients_kernel")
ON_ONE_RANK = ("statistics_kernel", "means_kernel", "means_kernel", "means_kernel")
OVER_MAPS = {*ON_RANKS, *ON_ONE_RANK}
KERNELS = ["moments_kernel", "collect_kernel", *ON_RANKS[1:], "finish_kernel", "follow_kernel"]
KERNELS += [*ON_ONE_RANK, "gradients_kernel", "sums_kernel", "sums_kernel"]
QUICK = (90, "bfloat16", 7, 2048)
SHAPES = [QUICK, *((c, t, 56, 64) for c in (80, 90) for t in ("bfloat16", "float32"))]
"""Capability, dtype, map side, C."""
NARROW = 2, (90, "bfloat16", 7, 63)


def inspect(report: Report, shape: tuple[Any, ...]) -> None:
    """Kernels over whole maps move 16 bytes at a time."""
    for kernel in (kernel for kernel in report if kernel["name"] in OVER_MAPS):
        assert count(kernel, "LDG", "128") + count(kernel, "LDGSTS", "128") > 0, kernel["name"]
        assert narrow(kernel) == 0, kernel["name"]
    for kernel in (*report[2:5], *report[-5:]):
        assert count(kernel, "STG", "128") > 0, kernel["name"]
    for kernel in report:
        assert kernel["releases"] == ([True] if kernel["name"] in ON_ONE_RANK else []), kernel["name"]


def main() -> None:
    from fra_dist.kernels.batch_norm import launch
    from fra_dist.kernels.batch_norm.arrivals import arrivals

    capability, side, channels = (int(sys.argv[i]) for i in (1, 3, 4))
    report = compile_instead(launch, capability)
    x = torch.zeros(8, channels, side, side, dtype=getattr(torch, sys.argv[2])).contiguous(
        memory_format=torch.channels_last
    )
    values = torch.zeros(2, channels)
    launch.moments(x, 2)
    launch.transform(x, values, values, x, True)
    launch.sums(x, x, x, x, values, values, values, None)
    launch.gradients(x, x, *[values] * 3, None, *[values] * 2)
    launch.finish(torch.zeros(2, 2, channels, dtype=torch.float64), values[0], values[1], 1e-5)
    launch.follow(values[0], values[1], torch.tensor(0), values, values, 0.1, 1.2)
    room, kept, arrived = launch.room_for_sums(x, 2), (values[0], values[1], torch.tensor(0)), arrivals(-1)
    launch.statistics_launch(x, room, values[0], values[1], torch.zeros(5, 2, channels), kept, arrived, 1e-5, 0.1)()
    means = torch.zeros(2, 2, channels), values, arrived
    launch.means_launch(x, None, x, None, *[values] * 4, room, x, *means)()
    launch.means_launch(x, None, x, None, *[values] * 4, room, x, *means, rebuild=True)()
    launch.means_launch(x, x, x, x, *[values] * 3, None, room, x, *means)()
    launch.gradients(x, x, *[values] * 6)
    launch.sums(x, None, x, x, values, values, values, None)
    launch.sums(x, None, x, None, *[values] * 4, True)
    print(json.dumps(report))


if __name__ == "__main__":
    main()
