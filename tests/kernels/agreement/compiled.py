"""Run by the tests in a process of its own; see `compiling.py`. Arguments: capability (90), dtype, D, Q."""

import json
import sys
from typing import Any

import torch

from tests.kernels.compiling import Report, compile_instead, count, narrow

KERNELS = ["cosines_kernel", "finish_kernel", "gradient_kernel"]
QUICK = (90, "bfloat16", 256, 8)
SHAPES = [QUICK, *((c, t, 256, q) for c in (80, 90) for t in ("bfloat16", "float32") for q in (1, 20, 64))]
"""Capability, dtype, D, Q."""
NARROW = 0, (90, "bfloat16", 255, 8)


def inspect(report: Report, shape: tuple[Any, ...]) -> None:
    """Products are those of tensor cores, and vectors move 16 bytes at a time."""
    for kernel in (report[0], report[2]):
        assert count(kernel, "HGMMA") + count(kernel, "HMMA") > 0, kernel["name"]
        if shape[1] == "bfloat16":
            assert narrow(kernel) == 0, kernel["name"]
            assert count(kernel, "LDG", "128") + count(kernel, "LDGSTS", "128") > 0, kernel["name"]
    if shape[1] == "bfloat16":
        assert count(report[2], "STG", "128") > 0


def main() -> None:
    from fra_dist.kernels.agreement import launch

    capability, width, regions = (int(sys.argv[i]) for i in (1, 3, 4))
    report = compile_instead(launch, capability)
    vectors = [torch.zeros(64, regions, width, dtype=getattr(torch, sys.argv[2])) for _ in range(4)]
    outputs = launch.forward_outputs(vectors[0])
    launch.forward(vectors, 0.02, outputs)
    launch.backward(outputs[:2], vectors, *outputs[6:], 0.02, vectors[:2])
    print(json.dumps(report))


if __name__ == "__main__":
    main()
