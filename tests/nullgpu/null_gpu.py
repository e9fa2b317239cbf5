"""A GPU that is not there: PyTorch's CUDA build, Triton and DeepSpeed run on it, and what they ask of it is counted.

One library stands before the CUDA runtime, cuBLAS, cuDNN, NCCL and the driver (`gpu/*.c`). Its memory is address space,
its kernels do nothing. So it shows which devices tensors are on, whether launches and captures are legal, how many
launches, copies, allocations and synchronisations a step makes, the host's time for them and the peak of PyTorch's
allocator. It shows nothing of results, of kernels' time or of what ranks send each other: numbers are what was in
memory.
"""

import ctypes
import importlib.util
import os
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

Scene = Callable[..., dict[str, Any]]
"""Runs a script of this folder on the null GPU, with words, and returns what it prints; `stderr`: what else it said."""

SOURCES = Path(__file__).parent / "gpu"
VARIABLE = "NULL_GPU"
"""Environment variable with the library's path, in processes that run on it."""
_STUBBED = ("cuda", "__cuda", "cublas", "cudnn", "cusparse", "cusolver", "nccl")
SYNCHRONISATIONS = ("stream_syncs", "device_syncs", "event_syncs", "blocking_copies", "pageable_copies")
ALLOCATIONS = ("allocations", "host_allocations", "releases")
REFUSALS = ("refused_launches", "refused_captures", "bad_addresses")
LAUNCHES = ("kernels", "triton_kernels", "graphs", "matrix_products", "convolutions", "collectives", "copies", "fills")
"""What the host hands to the device."""


def obstacle() -> str | None:
    """Why the null GPU cannot be built here; None if it can."""
    missing = [tool for tool in ("gcc", "nm") if shutil.which(tool) is None]
    if missing:
        return f"the null GPU is compiled: {missing[0]} is not installed"
    if not list(_torch_libraries()):
        return "this PyTorch is not a CUDA build"
    absent = [str(folder) for folder in _headers() if not folder.is_dir()]
    if absent:
        return f"no CUDA headers at {absent[0]}"
    return None


def build(folder: Path) -> Path:
    """Compile the library, in about a second. Returns its path; `environment` is how to use it."""
    folder.mkdir(parents=True, exist_ok=True)
    sources = [SOURCES / f"{name}.c" for name in ("memory", "streams", "device", "libraries")]
    compiler = ["gcc", "-O1", "-fPIC", "-w", "-fno-builtin"]
    compiler += [f"-I{place}" for place in (*_headers(), SOURCES, folder)]
    modelled = [folder / f"{source.stem}.o" for source in sources]
    for source, target in zip(sources, modelled, strict=True):
        _run([*compiler, "-c", str(source), "-o", str(target)])
    missing = sorted(_wanted() - _symbols(modelled, "TBDR"))
    (folder / "missing.h").write_text("".join(f"F({name})\n" for name in missing))
    library = folder / "libcuda.so.1"
    link = ["-shared", "-Wl,-soname,libcuda.so.1", "-o", str(library), "-lpthread", "-ldl"]
    _run([*compiler, *map(str, modelled), str(SOURCES / "unmodelled.c"), *link])
    (folder / "libcuda.so").symlink_to("libcuda.so.1")  # what Triton links its launchers with
    return library


def environment(library: Path, scratch: Path, gpus: int = 1) -> dict[str, str]:
    """Variables for a process that is to run on it; scratch: for what Triton and Inductor compile."""
    folder = str(library.parent)
    others = os.environ.get("LD_LIBRARY_PATH")
    return os.environ | {
        "LD_PRELOAD": str(library),
        "LD_LIBRARY_PATH": folder if not others else f"{folder}:{others}",
        "TRITON_LIBCUDA_PATH": folder,
        "TRITON_CACHE_DIR": str(scratch / "triton"),
        "TORCHINDUCTOR_CACHE_DIR": str(scratch / "inductor"),
        "TORCHINDUCTOR_COMPILE_THREADS": "1",
        "OMP_NUM_THREADS": "1",
        "FRA_DIST_KERNELS": "auto",
        "NULL_GPUS": str(gpus),
        VARIABLE: str(library),
    }


class Counters:
    """What was asked of the null GPU in this process so far."""

    def __init__(self) -> None:
        self._library = ctypes.CDLL(os.environ[VARIABLE])
        names = ctypes.c_char.in_dll(self._library, "null_counter_names")
        self.names = ctypes.string_at(ctypes.addressof(names)).decode().split()
        self._counts = (ctypes.c_long * len(self.names)).in_dll(self._library, "null_counts")

    def read(self) -> dict[str, int]:
        return dict(zip(self.names, self._counts, strict=True))

    def unmodelled(self) -> list[str]:
        """Functions called that do nothing at all."""
        names = ctypes.c_char.in_dll(self._library, "null_unmodelled_names")
        return ctypes.string_at(ctypes.addressof(names)).decode().split()

    @contextmanager
    def during(self) -> Iterator[dict[str, int]]:
        """Yields a dictionary that holds, after the block, what was asked in it."""
        found: dict[str, int] = {}
        before = self.read()
        yield found
        found |= {name: count - before[name] for name, count in self.read().items()}


def problems(counts: dict[str, int], most_launches: int) -> list[str]:
    """What is wrong with a step that was counted: it waits, allocates, is refused something or launches too much."""
    forbidden = (*SYNCHRONISATIONS, *ALLOCATIONS, *REFUSALS, "unmodelled")
    found = [f"{counts[name]} {name}" for name in forbidden if counts[name]]
    if launches(counts) > most_launches:
        found.append(f"{launches(counts)} launches, of {most_launches}")
    return found


def launches(counts: dict[str, int]) -> int:
    return sum(counts[name] for name in LAUNCHES)


def outside_convolutions(counts: dict[str, int]) -> int:
    """Launches but for those of cuDNN."""
    return launches(counts) - counts["convolutions"]


def _site() -> Path:
    spec = importlib.util.find_spec("torch")
    assert spec is not None
    assert spec.origin is not None
    return Path(spec.origin).parent.parent


def _headers() -> list[Path]:
    """PyTorch's own, and Triton's for what those lack."""
    return [_site() / "nvidia" / "cu13" / "include", _site() / "triton" / "backends" / "nvidia" / "include"]


def _torch_libraries() -> Iterator[Path]:
    names = ("torch_cuda", "c10_cuda", "torch_cuda_linalg", "torch_python")
    paths = [_site() / "torch" / "lib" / f"lib{name}.so" for name in names]
    if paths[0].exists():
        yield from paths


def _wanted() -> set[str]:
    """CUDA's functions that PyTorch calls, and those of the driver that Triton's launchers are compiled with."""
    names = {name for name in _symbols(list(_torch_libraries()), "U", "-D") if name.startswith(_STUBBED)}
    launcher = (_site() / "triton" / "backends" / "nvidia").glob("driver.*")
    return names.union(*(re.findall(r"\bcu[A-Z]\w+(?=\()", path.read_text()) for path in launcher))


def _symbols(files: list[Path], kinds: str, *options: str) -> set[str]:
    lines = _run(["nm", *options, *map(str, files)]).splitlines()
    found = [line.split()[-2:] for line in lines]
    return {pair[1].partition("@")[0] for pair in found if len(pair) == 2 and pair[0] in kinds}


def _run(command: list[str]) -> str:
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout
