"""Run by the tests in a process of its own; see `compiling.py`. Arguments: capability (90), dtype, rows, pixels, D,
dropout."""

import json
import sys
from typing import Any

import torch

from tests.kernels.compiling import Report, compile_instead, count, narrow

KERNELS = ["pool_kernel", "rows_backward_kernel", "memory_backward_kernel"]
QUICK = (90, "bfloat16", 64, 49, 256, 1)
SHAPES = [
    QUICK,
    (80, "bfloat16", 64, 49, 256, 1),
    (80, "float16", 256, 784, 256, 0),
    (90, "bfloat16", 16, 196, 240, 0),
    (80, "float32", 64, 49, 64, 1),
    (90, "float32", 64, 49, 64, 1),
]
"""Capability, dtype, rows, pixels, D, dropout."""


def inspect(report: Report, shape: tuple[Any, ...]) -> None:
    """All use tensor cores; those over bf16 maps move 16 bytes at a time."""
    for kernel in report:
        assert count(kernel, "HGMMA") + count(kernel, "HMMA") > 0, kernel["name"]
        if shape == QUICK:
            assert count(kernel, "LDG", "128") + count(kernel, "LDGSTS", "128") > 0, kernel["name"]
            assert count(kernel, "STG", "128") > 0, kernel["name"]
            assert narrow(kernel) == 0, kernel["name"]


def main() -> None:
    from fra_dist.kernels.decoder_attention import launch

    capability, rows, pixels, width, drop = (int(sys.argv[i]) for i in (1, 3, 4, 5, 6))
    report = compile_instead(launch, capability)
    dtype = getattr(torch, sys.argv[2])
    a, memory = torch.zeros(2, rows, width, dtype=dtype), torch.zeros(2, pixels, width, dtype=dtype)
    code = torch.zeros(pixels, width, dtype=dtype)
    keep = torch.zeros(2, rows, pixels, dtype=torch.bool) if drop else None
    saved = launch.forward(a, memory, code, keep, 0.2, 1.1)
    launch.backward(saved[0], saved[1], a, memory, code, keep, *saved, 0.2, 1.1)
    print(json.dumps(report))


if __name__ == "__main__":
    main()
