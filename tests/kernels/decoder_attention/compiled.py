"""Run by the tests in a process of its own; see `compiling.py`. Arguments: capability (90), dtype, rows, pixels, D,
dropout."""

import json
import sys
from typing import Any

import torch

from tests.kernels.compiling import Report, compile_instead, count, narrow

KERNELS = ["pool_kernel", "rows_backward_kernel", "memory_backward_kernel", "bias_backward_kernel"]
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
    """All that go over the map use tensor cores; over bf16 maps, 16 bytes move at a time."""
    bias = report[3]
    if shape == QUICK:
        assert count(bias, "LDG", "128") > 0
        assert narrow(bias) == 0
    for kernel in report[:3]:
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
    heads = 8 if rows % 8 == 0 else 1
    a = torch.zeros(heads, 2, rows // heads, width, dtype=dtype)
    memory, code = torch.zeros(2, pixels, width, dtype=dtype), torch.zeros(pixels, width, dtype=dtype)
    keep = torch.zeros(2, rows, pixels, dtype=torch.bool) if drop else None
    bias = torch.zeros(width)
    pooled, total, logsum, out = launch.forward(a, memory, code, keep, bias, 0.2, 1.1)
    launch.backward(pooled, total, a, memory, code, keep, pooled, total, logsum, 0.2, 1.1)
    launch.bias_backward(out, total, bias)
    print(json.dumps(report))


if __name__ == "__main__":
    main()
