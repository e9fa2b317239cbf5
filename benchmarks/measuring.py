"""What the benchmarks of kernels share: the command line, the rate of a device copy, and medians."""

import argparse
import json
import platform
import statistics
import time
from collections.abc import Callable, Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

Rows = Callable[[argparse.Namespace], Iterator[dict[str, Any]]]


def report(name: str, about: str | None, on_gpu: Rows, on_cpu: Rows, sizes: dict[str, tuple[int, int]]) -> None:
    """Read the command line, run, and append the rows to NAME.jsonl in --out with device and versions.

    sizes: option -> (its default on a GPU, and on a CPU).
    """
    parser = argparse.ArgumentParser(description=about.splitlines()[0] if about else None)
    for option, (large, small) in sizes.items():
        parser.add_argument(f"--{option}", type=int, help=f"{large} on a GPU, {small} on a CPU")
    parser.add_argument("--dtype", choices=["bfloat16", "float16", "float32"], default="bfloat16", help="GPU only")
    parser.add_argument("--out", type=Path, help=f"folder; appends to {name}.jsonl in it")
    given = parser.parse_args()
    gpu = torch.cuda.is_available()
    for option, (large, small) in sizes.items():
        setattr(given, option, getattr(given, option) or (large if gpu else small))
    device = torch.cuda.get_device_name() if gpu else f"{platform.machine()} CPU, {torch.get_num_threads()} threads"
    versions = {"torch": torch.__version__, "triton": metadata.version("triton")}
    print(f"{device}, torch {versions['torch']}, triton {versions['triton']}")
    rows = list(on_gpu(given) if gpu else on_cpu(given))
    if given.out:
        common = {"device": device, **versions, "date": time.strftime("%Y-%m-%d")}
        common |= {option: getattr(given, option) for option in sizes}
        common |= {"dtype": given.dtype if gpu else "float32"}
        given.out.mkdir(parents=True, exist_ok=True)
        with (given.out / f"{name}.jsonl").open("a") as file:
            file.writelines(json.dumps(common | row) + "\n" for row in rows)


def copy_rate() -> float:
    """GB/s of a device copy, reads and writes counted."""
    from triton.testing import do_bench

    source = torch.empty(2**30, dtype=torch.int8, device="cuda")
    target = torch.empty_like(source)
    return 2 * source.nbytes / do_bench(lambda: target.copy_(source), return_mode="median") / 1e6


def in_turns(runs: list[Callable[[], Any]], rounds: int = 20) -> list[float]:
    """Median milliseconds of each, taking turns so that other load on the machine meets all of them alike."""
    times: list[list[float]] = [[] for _ in runs]
    for _ in range(rounds):
        for run, record in zip(runs, times, strict=True):
            start = time.perf_counter()
            run()
            record.append((time.perf_counter() - start) * 1e3)
    return [statistics.median(record) for record in times]
