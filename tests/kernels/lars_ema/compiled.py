"""Run by the tests in a process of its own; see `compiling.py`. Arguments: capability (90), dtype of the gradients."""

import json
import sys
from typing import Any

import torch

from tests.kernels.compiling import Report, compile_instead, count

KERNELS = ["squares_kernel", "gather_kernel", "squares_kernel", "step_kernel", "follow_kernel"]
QUICK = (90, "float32")
SHAPES = [QUICK, (80, "float32"), (90, "bfloat16")]
"""Capability, dtype of the gradients."""


def inspect(report: Report, shape: tuple[Any, ...]) -> None:
    """Every tensor moves 16 bytes at a time; the gathering kernel adds only a few numbers."""
    for kernel in report:
        if kernel["name"] != "gather_kernel":
            tensors = {"squares_kernel": 2, "step_kernel": 4, "follow_kernel": 2}[kernel["name"]]
            assert count(kernel, "LDG", "128") + count(kernel, "LDGSTS", "128") >= tensors, kernel["name"]
    assert count(report[3], "STG", "128") >= 3
    assert count(report[4], "STG", "128") >= 1


def main() -> None:
    from fra_dist.kernels.lars_ema import launch

    capability, dtype = int(sys.argv[1]), getattr(torch, sys.argv[2])
    report = compile_instead(launch, capability)
    weights = [torch.zeros(300, 100), torch.zeros(100)]
    gradients = [x.to(dtype) for x in weights]
    launch.squares(weights, gradients)
    guard = torch.zeros(())
    launch.step(weights, gradients, weights, weights, [0.1, 0.0], [True, False], 0.1, 0.9, 0.001, 0.99, None, guard)
    launch.follow(weights, gradients, 0.99, guard)
    print(json.dumps(report))


if __name__ == "__main__":
    main()
