"""Run by the tests in a process of its own; see `compiling.py`.

Arguments: compute capability (90), dtype, layout, map side, C, D, Q.
"""

import json
import sys
from typing import Any

import torch

from tests.kernels.compiling import Report, compile_instead, count, narrow

KERNELS = [
    "similarity_kernel",
    "pool_kernel",
    "features_backward_kernel",
    "pixels_backward_kernel",
    "prototypes_backward_kernel",
]
QUICK = (90, "bfloat16", "channels_last", 7, 2048, 256, 8)
MORE = [
    (capability, dtype, "channels_last", 7, 2048, 256, regions)
    for capability in (80, 90)
    for dtype in ("bfloat16", "float32")
    for regions in (8, 32, 64)
]
MORE += [(90, "float16", "channels_last", 14, 2048, 256, 8), (90, "bfloat16", "planar", 28, 2040, 240, 64)]
SHAPES = [QUICK, *(shape for shape in MORE if shape != QUICK)]
"""Capability, dtype, layout, map side, C, D, Q."""
NARROW = 0, (90, "bfloat16", "planar", 7, 2040, 240, 8)


def inspect(report: Report, shape: tuple[Any, ...]) -> None:
    """All but the one that only adds use tensor cores; bf16 maps move 16 bytes at a time."""
    for kernel in report:
        if kernel["name"] != "prototypes_backward_kernel":
            assert count(kernel, "HGMMA") + count(kernel, "HMMA") > 0, kernel["name"]
    if shape == QUICK:
        for kernel in report[:4]:
            assert count(kernel, "LDGSTS", "128") > 0, kernel["name"]
            assert count(kernel, "HGMMA", "BF16") > 0, kernel["name"]
            assert narrow(kernel) == 0, kernel["name"]
            if "backward" in kernel["name"]:
                assert count(kernel, "STG", "128") > 0, kernel["name"]


def main() -> None:
    from fra_dist.kernels.region_attention import launch

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
