"""Run by the tests in a process of its own; see `compiling.py`. Arguments: capability (90), dtype of the gradients."""

import json
import sys

import torch
from compiling import compile_instead

from fra_dist.kernels.lars_ema import launch


def main() -> None:
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
