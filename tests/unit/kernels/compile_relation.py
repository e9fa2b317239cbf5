"""Run by the tests in a process of its own; see `compiling.py`. Arguments: capability (90), dtype, map side, Q."""

import json
import sys

import torch
from compiling import compile_instead

from fra_dist.kernels.relation import launch


def main() -> None:
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
