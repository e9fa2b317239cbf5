"""Run by the tests in a process of its own; see `compiling.py`. Arguments: capability (90), dtype, map side, C."""

import json
import sys
from typing import Any

import torch

from tests.kernels.compiling import Report, compile_instead, count, narrow

KERNELS = ["pool_kernel", "sums_kernel", "gradients_kernel"]
QUICK = (90, "bfloat16", 112, 64)
SHAPES = [QUICK, (80, "bfloat16", 112, 64), (80, "float32", 56, 64), (90, "float32", 56, 64)]
"""Capability, dtype, map side, C."""
NARROW = 0, (90, "bfloat16", 7, 63)


def inspect(report: Report, shape: tuple[Any, ...]) -> None:
    """The map moves 16 bytes at a time; what was noted of the maxima, bytes, in wider words."""
    for kernel in report:
        assert count(kernel, "LDG", "128") + count(kernel, "LDGSTS", "128") > 0, kernel["name"]
        assert narrow(kernel) == 0, kernel["name"]
        assert count(kernel, "LDG", "U8") + count(kernel, "STG", "U8") == 0, kernel["name"]
    assert count(report[0], "STG", "128") > 0
    assert count(report[2], "STG", "128") > 0


def main() -> None:
    from fra_dist.kernels.pooled_norm import launch

    capability, side, channels = (int(sys.argv[i]) for i in (1, 3, 4))
    report = compile_instead(launch, capability)
    x = torch.zeros(8, channels, side, side, dtype=getattr(torch, sys.argv[2])).contiguous(
        memory_format=torch.channels_last
    )
    values = torch.zeros(2, channels)
    pooled, at = launch.pool(x, values, values)
    launch.sums(pooled, at, x, values, values)
    launch.gradients(pooled, at, x, *[values] * 5)
    print(json.dumps(report))


if __name__ == "__main__":
    main()
