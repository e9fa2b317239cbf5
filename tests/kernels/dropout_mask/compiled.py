"""Run by the tests in a process of its own; see `compiling.py`. Arguments: capability (90), elements of an image."""

import json
import sys
from typing import Any

import torch

from tests.kernels.compiling import Report, compile_instead, count

KERNELS = ["mask_kernel"]
QUICK = (90, 16 * 49)
SHAPES = [QUICK, (80, 16 * 49), (90, 2048)]
"""Capability, elements of an image; those of every image begin at a multiple of 16 bytes."""
NARROW = (0, (90, 8 * 49))


def narrow(kernel: dict[str, Any]) -> int:
    """Stores of single bytes to global memory."""
    return count(kernel, "STG", "U8")


def inspect(report: Report, shape: tuple[Any, ...]) -> None:
    """A thread stores its 8 elements at once; the program loads one key."""
    assert narrow(report[0]) == 0
    assert count(report[0], "STG", "64") >= 1
    assert count(report[0], "LDG", "64") == 1


def main() -> None:
    from fra_dist.kernels.dropout_mask import launch

    report = compile_instead(launch, int(sys.argv[1]))
    launch.mask(torch.zeros(4, dtype=torch.int64), [8, int(sys.argv[2])], 0, 6, 2**50)
    print(json.dumps(report))


if __name__ == "__main__":
    main()
