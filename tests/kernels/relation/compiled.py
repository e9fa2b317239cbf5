"""Run by the tests in a process of its own; see `compiling.py`. Arguments: capability (90), dtype, map side, Q."""

import json
import sys
from typing import Any

import torch

from tests.kernels.compiling import Report, compile_instead, count

KERNELS = ["mass_kernel", "combine_kernel", "shift_kernel", "terms_kernel", "gradient_kernel"]
QUICK = (90, "float32", 7, 8)
OTHER = (("float32", 8), ("float32", 64), ("bfloat16", 5), ("float32", 1))
SHAPES = [QUICK, *((c, t, 14, q) for c in (80, 90) for t, q in OTHER)]
"""Capability, dtype, map side, Q."""


def inspect(report: Report, shape: tuple[Any, ...]) -> None:
    for kernel in report:
        assert count(kernel, "LDG") > 0, kernel["name"]


def main() -> None:
    from fra_dist.kernels.relation import launch

    capability, side, regions = (int(sys.argv[i]) for i in (1, 3, 4))
    report = compile_instead(launch, capability)
    maps = torch.zeros(2, 64, regions, side * side, dtype=getattr(torch, sys.argv[2]))
    bias = torch.zeros(2, regions)
    mass = launch.mass(maps, bias, 0.04)
    launch.shift(bias, mass)
    launch.terms(maps, maps, bias, 0.1, 0.04)
    launch.gradient(maps, maps, bias, torch.zeros(2), bias, 0.1, 0.04)
    print(json.dumps(report))


if __name__ == "__main__":
    main()
