"""Run by the tests in a process of its own; see `compiling.py`.

Arguments: compute capability (90), dtype, map side, D.
"""

import json
import sys
from typing import Any

import torch

from tests.kernels.compiling import Report, compile_instead, count, narrow

KERNELS = ["forward_kernel", "queries_backward_kernel", "keys_backward_kernel"]
QUICK = (90, "bfloat16", 28, 256)
MORE = [
    (capability, dtype, 28, width)
    for capability in (80, 90)
    for dtype in ("bfloat16", "float32")
    for width in (64, 128, 256)
]
MORE += [(90, "float16", 7, 256), (90, "bfloat16", 7, 240)]
SHAPES = [QUICK, *(shape for shape in MORE if shape != QUICK)]
"""Capability, dtype, map side, D."""


def inspect(report: Report, shape: tuple[Any, ...]) -> None:
    """All use tensor cores; those over bf16 vectors move 16 bytes at a time."""
    for kernel in report:
        assert count(kernel, "HGMMA") + count(kernel, "HMMA") > 0, kernel["name"]
        if shape == QUICK:
            assert count(kernel, "LDGSTS", "128") + count(kernel, "LDG", "128") > 0, kernel["name"]
            assert count(kernel, "HGMMA", "BF16") > 0, kernel["name"]
            assert narrow(kernel) == 0, kernel["name"]
            if "backward" in kernel["name"]:
                assert count(kernel, "STG", "128") > 0, kernel["name"]


def main() -> None:
    from fra_dist.kernels.correspondence import launch

    capability, side, width = (int(sys.argv[i]) for i in (1, 3, 4))
    report = compile_instead(launch, capability)
    vectors = torch.zeros(2, side * side, width, dtype=getattr(torch, sys.argv[2]))
    places, numbers = torch.zeros(2, side), torch.zeros(2, side * side)
    launch.forward(vectors, vectors, places, places, 0.7, 0.1, numbers, numbers)
    launch.backward(vectors, vectors, places, places, numbers, numbers, 0.7, 0.1, vectors, vectors)
    print(json.dumps(report))


if __name__ == "__main__":
    main()
