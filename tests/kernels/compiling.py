"""Kernels compiled for a GPU that is not there, in a process without the interpreter, and their machine code.

A report is a list, one entry a kernel: name, capability, shared memory in bytes, registers, stack in bytes, a count of
each machine instruction, how many barriers stand in loops that hold no matrix product, and of each atomic operation
whether it releases what all threads of the program stored before it.
"""

import functools
import json
import os
import re
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
MOST_SHARED = {80: 166_912, 90: 232_448, 100: 232_448, 120: 101_376}
"""Bytes of shared memory that a block may have, by compute capability (A100, H100, B200, RTX 50)."""

Report = list[dict[str, Any]]


def compiler(cache: Path) -> Callable[..., Report]:
    """For tests: a function from a kernel and the arguments of its `compiled.py` to the report, each asked for once."""

    @functools.lru_cache
    def run(kernel: str, *words: Any) -> Report:
        environment = {k: v for k, v in os.environ.items() if k != "TRITON_INTERPRET"} | {
            "TRITON_CACHE_DIR": str(cache),
            "PYTHONPATH": str(HERE.parents[1]),
        }
        command = [sys.executable, str(HERE / kernel / "compiled.py"), *map(str, words)]
        done = subprocess.run(command, env=environment, capture_output=True)
        assert done.returncode == 0, done.stderr.decode()
        return json.loads(done.stdout)

    return run


def count(kernel: dict[str, Any], *parts: str) -> int:
    """Instructions whose name has all the parts."""
    return sum(n for name, n in kernel["instructions"].items() if all(part in name.split(".") for part in parts))


def narrow(kernel: dict[str, Any]) -> int:
    """Accesses to single 16-bit numbers in global memory."""
    return count(kernel, "LDG", "U16") + count(kernel, "STG", "U16")


def assert_fits(kernel: dict[str, Any], capability: int) -> None:
    """It is for that GPU, spills nothing and fits it."""
    assert kernel["capability"] == capability
    assert sum(kernel["instructions"].values()) > 50
    assert kernel["stack"] == 0, kernel["name"]
    assert count(kernel, "LDL") + count(kernel, "STL") == 0, kernel["name"]
    assert kernel["shared"] <= MOST_SHARED[capability], kernel["name"]
    assert kernel["registers"] <= 255


def compile_instead(launch: Any, capability: int) -> Report:
    """For scripts: from now on the launches of that module compile for that GPU and add to the report."""
    from triton.runtime import driver

    from fra_dist.kernels import launcher

    driver.set_active(AbsentGPU(capability))
    report: Report = []

    def compile_only(kernel: Any, grid: Any, settings: dict[str, Any], *arguments: Any) -> None:
        grid = grid if isinstance(grid, tuple) else (grid,)
        report.append(_inspect(kernel.__name__, kernel.warmup(*arguments, grid=grid, **settings)))

    launcher.launch = launch._launch = compile_only
    return report


class AbsentGPU:
    """What Triton asks of a driver in order to compile."""

    def __init__(self, capability: int) -> None:
        self.capability = capability

    def get_current_device(self) -> int:
        return 0

    def get_current_stream(self, device: int) -> int:
        return 0

    def get_current_target(self) -> Any:
        from triton.backends.compiler import GPUTarget

        return GPUTarget("cuda", self.capability, 32)


def _inspect(name: str, compiled: Any) -> dict[str, Any]:
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
        "looped_barriers": looped_barriers(code),
        "releases": releases(compiled.asm["ptx"]),
    }


def looped_barriers(code: str) -> int:
    """Barriers of a block inside loops without a matrix product, in nvdisasm's text.

    There a barrier only makes warps wait for each other between loads that could be under way together; with a matrix
    product it guards the tiles in shared memory. Where one warp issues the products for all (UTC...MMA, sm_100), they
    stand outside of the lines of their loop, and none is counted.
    """
    lines = code.splitlines()
    if re.search(r"\sUTC[A-Z]*MMA[.\s]", code):
        return 0
    labels = {found[1]: number for number, line in enumerate(lines) if (found := re.match(r"\s*(\.L_\w+):", line))}
    inside: set[int] = set()
    for number, line in enumerate(lines):
        found = re.search(r"\bBRA\S*\s.*`\((\.L_\w+)\)", line)
        start = labels.get(found[1], number) if found else number
        loop = range(start, number)
        if not any(re.search(r"\s[A-Z]*MMA[.\s]", lines[i]) for i in loop):
            inside.update(i for i in loop if re.search(r"\sBAR\.", lines[i]))
    return len(inside)


def releases(code: str) -> list[bool]:
    """Of each atomic operation in PTX, whether it acquires and releases for the whole GPU, and whether a barrier stands
    between it and the last store before it."""
    found = []
    for atomic in re.finditer(r"\batom\.\S+", code):
        before = code[: atomic.start()]
        barrier = max(before.rfind("bar.sync"), before.rfind("barrier.sync"))
        ordered = {"acq_rel", "gpu"} <= set(atomic[0].split("."))
        found.append(ordered and barrier > before.rfind("st.global"))
    return found


def _tool(name: str, *arguments: str) -> str:
    import triton

    tools = Path(triton.__file__).parent / "backends" / "nvidia" / "bin"
    done = subprocess.run([tools / name, *arguments], capture_output=True, text=True, check=True)
    return done.stdout + done.stderr
