"""Run by the tests in a process of its own; see `compiling.py`.

Arguments: compute capability (90), dtype, map side, D.
"""

import json
import sys

import torch
from compiling import compile_instead

from fra_dist.kernels.correspondence import launch


def main() -> None:
    capability, side, width = (int(sys.argv[i]) for i in (1, 3, 4))
    report = compile_instead(launch, capability)
    vectors = torch.zeros(2, side * side, width, dtype=getattr(torch, sys.argv[2]))
    places, numbers = torch.zeros(2, side), torch.zeros(2, side * side)
    launch.forward(vectors, vectors, places, places, 0.7, 0.1, numbers, numbers)
    launch.backward(vectors, vectors, places, places, numbers, numbers, 0.7, 0.1, vectors, vectors)
    print(json.dumps(report))


if __name__ == "__main__":
    main()
