"""Run by the tests in a process of its own; see `compiling.py`. Arguments: capability (90), dtype, map side, C."""

import json
import sys

import torch
from compiling import compile_instead

from fra_dist.kernels.batch_norm import launch


def main() -> None:
    capability, side, channels = (int(sys.argv[i]) for i in (1, 3, 4))
    report = compile_instead(launch, capability)
    x = torch.zeros(8, channels, side, side, dtype=getattr(torch, sys.argv[2])).contiguous(
        memory_format=torch.channels_last
    )
    values = torch.zeros(2, channels)
    launch.moments(x, 2)
    launch.transform(x, values, values, x, True)
    launch.sums(x, x, x, values, values)
    launch.gradients(x, x, x, *[values] * 5, True)
    launch.finish(torch.zeros(2, 2, channels, dtype=torch.float64), values[0], values[1], 1e-5)
    launch.follow(values[0], values[1], torch.tensor(0), values, values, 0.1, 1.2)
    print(json.dumps(report))


if __name__ == "__main__":
    main()
