"""Run by the tests in a process of its own, without the interpreter: compiles the kernels for a GPU that is not there.

Arguments: compute capability (90), dtype, layout, map side, C, D, Q. Prints a list, one entry a kernel: name, shared
memory in bytes, registers, stack in bytes and a count of each machine instruction.
"""

import json
import re
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

import torch
import triton
from triton.backends.compiler import GPUTarget
from triton.runtime import driver

from fra_dist.kernels import region_attention_launch as launch

TOOLS = Path(triton.__file__).parent / "backends" / "nvidia" / "bin"


class AbsentGPU:
    """What Triton asks of a driver in order to compile."""

    def __init__(self, capability: int) -> None:
        self.capability = capability

    def get_current_device(self) -> int:
        return 0

    def get_current_stream(self, device: int) -> int:
        return 0

    def get_current_target(self) -> GPUTarget:
        return GPUTarget("cuda", self.capability, 32)


def inspect(name: str, compiled: Any) -> dict[str, Any]:
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(compiled.asm["cubin"])
        file.flush()
        usage = _tool("cuobjdump", "-res-usage", file.name)
        code = _tool("nvdisasm", "-c", file.name)
    found = re.search(r"REG:(\d+) STACK:(\d+)", usage)
    assert found is not None, usage
    instructions = Counter(re.findall(r"^\s*/\*\w+\*/\s+(?:@!?U?P\w+ )?([A-Z][\w.]*)", code, flags=re.M))
    return {
        "name": name,
        "capability": compiled.metadata.target.arch,
        "shared": compiled.metadata.shared,
        "registers": int(found[1]),
        "stack": int(found[2]),
        "instructions": instructions,
    }


def _tool(name: str, *arguments: str) -> str:
    done = subprocess.run([TOOLS / name, *arguments], capture_output=True, text=True, check=True)
    return done.stdout + done.stderr


def main() -> None:
    capability, side, channels, width, regions = (int(sys.argv[i]) for i in (1, 4, 5, 6, 7))
    dtype = getattr(torch, sys.argv[2])
    layout = torch.channels_last if sys.argv[3] == "channels_last" else torch.contiguous_format
    driver.set_active(AbsentGPU(capability))
    report = []

    def compile_only(kernel: Any, programs: int, settings: dict[str, Any], *arguments: Any) -> None:
        report.append(inspect(kernel.__name__, kernel.warmup(*arguments, grid=(programs,), **settings)))

    launch._launch = compile_only
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
