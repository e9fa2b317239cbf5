"""Run by the tests in a process of its own; see `compiling.py`. Arguments: capability (90), dtype, rows, pixels, D,
dropout."""

import json
import sys

import torch
from compiling import compile_instead

from fra_dist.kernels.decoder_attention import launch


def main() -> None:
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
