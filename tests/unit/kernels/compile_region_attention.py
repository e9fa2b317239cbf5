"""Run by the tests in a process of its own; see `compiling.py`.

Arguments: compute capability (90), dtype, layout, map side, C, D, Q.
"""

import json
import sys

import torch
from compiling import compile_instead

from fra_dist.kernels.region_attention import launch


def main() -> None:
    capability, side, channels, width, regions = (int(sys.argv[i]) for i in (1, 4, 5, 6, 7))
    dtype = getattr(torch, sys.argv[2])
    layout = torch.channels_last if sys.argv[3] == "channels_last" else torch.contiguous_format
    report = compile_instead(launch, capability)
    features = torch.zeros(2, channels, side, side, dtype=dtype).contiguous(memory_format=layout)
    pixels = torch.zeros(2, width, side, side, dtype=dtype).contiguous(memory_format=layout)
    inputs = features, pixels, torch.zeros(regions, width)
    saved = launch.forward_outputs(*inputs)
    launch.forward(*inputs, 1.0, 1e-7, *saved)
    gradients = tuple(torch.empty_like(x) for x in inputs)
    launch.backward((saved[0], saved[1]), inputs, saved, gradients, 1.0, 1e-7)
    print(json.dumps(report))


if __name__ == "__main__":
    main()
