"""Run by the tests in a process of its own; see `compiling.py`. Arguments: capability (90), dtype, side, layout."""

import json
import sys
from typing import Any

import torch

from tests.kernels.compiling import Report, compile_instead, count

KERNELS = ["view_kernel"]
QUICK = (90, "bfloat16", 224, "last")
OTHER = ("float32", "last"), ("bfloat16", "first")
SHAPES = [QUICK, (100, *QUICK[1:]), (120, *QUICK[1:]), *((c, t, 224, o) for c in (80, 90) for t, o in OTHER)]
"""Capability, dtype, side of the views, place of the channels."""


def inspect(report: Report, shape: tuple[Any, ...]) -> None:
    """The result is written 16 bytes at a time, and read so from what the blur's rows have left.

    No product is fused with a sum, but for one in the division of the mean: results are those of the CPU to the bit.
    """
    assert count(report[0], "STG", "128") >= 1
    assert count(report[0], "LDG", "128") >= 1
    assert count(report[0], "FFMA") + count(report[0], "FFMA2") <= 1
    assert count(report[0], "FMUL") > 10


def main() -> None:
    from fra_dist.kernels.view_pixels import launch

    report = compile_instead(launch, int(sys.argv[1]))
    side = int(sys.argv[3])
    images, numbers = torch.zeros(4, side, side, 3, dtype=torch.uint8), torch.zeros(4, 25)
    launch.finish(images, numbers, getattr(torch, sys.argv[2]), sys.argv[4] == "last")
    print(json.dumps(report))


if __name__ == "__main__":
    main()
