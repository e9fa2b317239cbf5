"""Run by the tests in a process of its own; see `compiling.py`. Arguments: capability (90), dtype, queries, heads,
width of a head, dropout."""

import json
import sys
from typing import Any

import torch

from tests.kernels.compiling import Report, compile_instead, count, narrow

KERNELS = ["forward_kernel", "backward_kernel"]
QUICK = (90, "bfloat16", 8, 8, 32, 1)
SHAPES = [
    QUICK,
    (80, "bfloat16", 8, 8, 32, 1),
    (80, "bfloat16", 64, 4, 128, 1),
    (90, "bfloat16", 64, 4, 128, 1),
    (90, "float16", 20, 4, 64, 0),
    (80, "float32", 32, 4, 64, 1),
    (90, "float32", 32, 4, 64, 1),
    (90, "float32", 8, 8, 32, 1),
]
"""Capability, dtype, queries, heads, width of a head, dropout."""
NARROW = 0, (90, "bfloat16", 8, 8, 33, 1)


def inspect(report: Report, shape: tuple[Any, ...]) -> None:
    """Both use tensor cores, and move 16 bytes at a time."""
    for kernel in report:
        assert count(kernel, "HGMMA") + count(kernel, "HMMA") > 0, kernel["name"]
        assert count(kernel, "LDG", "128") + count(kernel, "LDGSTS", "128") > 0, kernel["name"]
        assert count(kernel, "STG", "128") > 0, kernel["name"]
        assert narrow(kernel) == 0, kernel["name"]


def main() -> None:
    from fra_dist.kernels.self_attention import launch

    capability, queries, heads, width, drop = (int(sys.argv[i]) for i in (1, 3, 4, 5, 6))
    report = compile_instead(launch, capability)
    v = torch.zeros(4, queries, heads * width, dtype=getattr(torch, sys.argv[2]))
    qk, keys = torch.cat([v, v], dim=2), torch.zeros(2, dtype=torch.int64) if drop else None
    numbers = keys, heads, 0.1 if drop else 0.0, 2, 12
    launch.forward(qk, v, *numbers)
    launch.backward(v, qk, v, *numbers)
    print(json.dumps(report))


if __name__ == "__main__":
    main()
