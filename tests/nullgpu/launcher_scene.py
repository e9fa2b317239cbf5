"""Launches of one kernel with arguments of many kinds, on the null GPU. Run by `test_kernels_on_null_gpu.py`.

Prints, as JSON, for each kind whether the second launch takes what Triton itself takes for these arguments, and how
many launches reached the GPU.
"""

import json
import sys
from pathlib import Path
from typing import Any

import torch
import triton
import triton.language as tl

sys.path.insert(0, str(Path(__file__).parents[2]))
from fra_dist.kernels import launcher
from tests.nullgpu.null_gpu import Counters


@triton.jit
def scaled(x, y, n, factor, BLOCK: tl.constexpr, TWICE: tl.constexpr):  # type: ignore[no-untyped-def]
    i = tl.arange(0, BLOCK)
    value = tl.load(x + i, mask=i < n, other=0.0) * factor
    tl.store(y + i, value + value if TWICE else value, mask=i < n)


def main() -> None:
    x, y = (torch.zeros(256, device="cuda") for _ in range(2))
    plain: dict[str, Any] = {"BLOCK": 64, "TWICE": False, "num_warps": 4}
    kinds = {
        "aligned": ((x, y, 16, 0.5), plain),
        "another factor": ((x, y, 16, 0.25), plain),
        "shifted": ((x[1:], y, 16, 0.5), plain),
        "both shifted": ((x[1:], y[3:], 16, 0.5), plain),
        "one": ((x, y, 1, 0.5), plain),
        "odd": ((x, y, 17, 0.5), plain),
        "long": ((x, y, 2**40, 0.5), plain),
        "half": ((x.bfloat16(), y, 16, 0.5), plain),
        "twice": ((x, y, 16, 0.5), plain | {"TWICE": True}),
        "warps": ((x, y, 16, 0.5), plain | {"num_warps": 2}),
    }
    counters = Counters()
    found: dict[str, Any] = {}
    for name, (arguments, settings) in kinds.items():
        with counters.during() as asked:
            for _ in range(2):
                launcher.launch(scaled, 1, settings, *arguments)
        own = scaled[1, 1, 1](*arguments, **settings)
        used, constants = launcher._kept[launcher._key(scaled, 0, settings, arguments)]
        found[name] = {"same": used is own, "constants": constants, "launches": asked["triton_kernels"]}
    with counters.during() as asked:
        launcher.launch(scaled, 0, plain, x, y, 16, 0.5)
        launcher.launch(scaled, (1, 0), plain, x, y, 16, 0.5)
    found["empty"] = asked["triton_kernels"]
    found["variants"] = len(launcher._kept)
    print(json.dumps(found))


if __name__ == "__main__":
    main()
