"""Run by the tests in a process of its own; see `compiling.py`. Arguments: capability (90), dtype, queries, width,
dropout."""

import json
import sys
from typing import Any

import torch

from tests.kernels.compiling import Report, compile_instead, count, narrow

KERNELS = ["forward_kernel", "rows_backward_kernel", "collect_kernel"]
QUICK = (90, "bfloat16", 8, 256, 1)
SHAPES = [
    QUICK,
    (80, "bfloat16", 8, 256, 1),
    (90, "float16", 64, 512, 0),
    (80, "float32", 8, 256, 1),
    (90, "float32", 32, 512, 1),
    (80, "bfloat16", 8, 512, 1),
    (90, "bfloat16", 8, 512, 1),
]
"""Capability, dtype, queries, width, dropout."""
NARROW = 0, (90, "bfloat16", 8, 255, 1)


def inspect(report: Report, shape: tuple[Any, ...]) -> None:
    """All move 16 bytes at a time, and the sums over rows need no barrier."""
    for kernel in report:
        assert count(kernel, "LDG", "128") + count(kernel, "LDGSTS", "128") > 0, kernel["name"]
        assert narrow(kernel) == 0, kernel["name"]
    for kernel in report[:2]:
        assert count(kernel, "STG", "128") > 0, kernel["name"]
        assert count(kernel, "BAR") == 0, kernel["name"]


def main() -> None:
    from fra_dist.kernels.residual_norm import launch

    capability, queries, width, drop = (int(sys.argv[i]) for i in (1, 3, 4, 5))
    dtype = getattr(torch, sys.argv[2])
    report = compile_instead(launch, capability)
    x, keys = torch.zeros(4, queries, width), torch.zeros(2, dtype=torch.int64) if drop else None
    u, numbers = x.to(dtype), (1e-5, 0.1 if drop else 0.0, 2, 12)
    launch.forward(x, u, x[0, 0], x[0, 0], x[0], keys, *numbers, dtype, True)
    launch.backward(x, u, u, x, u, x[0, 0], keys, *numbers)
    print(json.dumps(report))


if __name__ == "__main__":
    main()
