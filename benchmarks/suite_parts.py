"""The parts of `gpu_suite.py`: each yields rows, prints a short table as it runs, and heeds a deadline."""

import argparse
import gc
import importlib
import importlib.util
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from counting import PretendedRanks, collectives_of, requests
from whole_step import OurStep, Setting, Way, has_setting, plainly, published

Row = dict[str, Any]
KERNELS = ("region_attention", "batch_norm", "lars_ema", "relation", "decoder_attention", "correspondence")


@dataclass(frozen=True)
class Job:
    """What a part is asked to do. `deadline`: on the clock of `time.time`."""

    device: torch.device
    quick: bool
    batches: tuple[int, ...]
    deadline: float
    published: Path | None = None
    published_step: str = ""

    @property
    def gpu(self) -> bool:
        return self.device.type == "cuda"


@dataclass(frozen=True)
class Part:
    """`needs`: seconds below which it is not begun. `missing`: why it cannot run here, or nothing."""

    run: Callable[[Job], Iterator[Row]]
    needs: float
    missing: Callable[[Job], str] = lambda job: ""


def ceilings(job: Job) -> Iterator[Row]:
    """The rate of a device copy, and of matrix products."""
    if job.gpu:
        from measuring import copy_rate
        from triton.testing import do_bench

        def seconds(run: Callable[[], Any]) -> float:
            return do_bench(run, return_mode="median") / 1e3

        rate, side = copy_rate(), 8192
    else:

        def seconds(run: Callable[[], Any]) -> float:
            return statistics.median(_clock(run) for _ in range(5))

        source, target, side = torch.ones(2**24), torch.ones(2**24), 512
        rate = 2 * source.nbytes / seconds(lambda: target.copy_(source)) / 1e9
    print(f"device copy {rate:.0f} GB/s")
    yield {"what": "copy", "gb_s": rate}
    for dtype in (torch.bfloat16, torch.float32) if job.gpu else (torch.float32,):
        a, b = torch.randn(2, side, side, device=job.device, dtype=dtype)
        speed = 2 * side**3 / seconds(partial(torch.mm, a, b)) / 1e12
        print(f"matrix product of {side}, {dtype}: {speed:.3g} TFLOP/s")
        yield {"what": "matmul", "dtype": str(dtype).removeprefix("torch."), "tflop_s": speed}


def _clock(run: Callable[[], Any]) -> float:
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def self_check(job: Job) -> Iterator[Row]:
    """Every kernel against plain PyTorch in float64, gradients included."""
    from fra_dist.kernels.self_check import check_kernels

    for found in check_kernels(job.device):
        print(f"{found.kernel:<20} {found.dtype:<10} {found.difference:9.2g}  {found.problem or 'as it should be'}")
        yield {"kernel": found.kernel, "dtype": found.dtype, "difference": found.difference, "problem": found.problem}


def kernel(name: str, job: Job) -> Iterator[Row]:
    """A kernel's own benchmark at its usual size, or at a small one."""
    module = importlib.import_module(name)
    large, small = (256, 2) if name != "relation" else (256, 1)
    batch = large if job.gpu and not job.quick else small
    sizes = argparse.Namespace(batch=batch, regions=8, queries=8, width=256, channels=2048, dtype="bfloat16")
    sizes.sides = [7, 14, 28, 56]
    if job.quick:
        sizes.width, sizes.channels, sizes.sides = 32, 64, [7, 14]
    for row in module.on_gpu(sizes) if job.gpu else module.on_cpu(sizes):
        yield {"batch": sizes.batch, **row}
        if time.time() > job.deadline:
            print("out of time: the rest of this table is left out")
            return


def whole_step(name: str, make: Callable[[Setting], Way], job: Job) -> Iterator[Row]:
    """The step at each batch size: time, memory, and what it asks of host and device."""
    for number, batch in enumerate(job.batches):
        if number and time.time() > job.deadline - 20:
            print(f"out of time: {name} with {batch} images is left out")
            continue
        setting = Setting("resnet50", 224, batch, job.device, "bfloat16")
        if job.quick:
            dtype = "bfloat16" if job.gpu else "float32"
            setting = Setting("resnet18", 64, batch, job.device, dtype, small=True)
        row = {"way": name, "batch": batch, "size": setting.size, "backbone": setting.backbone, "dtype": setting.dtype}
        try:
            row |= measure(make(setting), setting, 3 if job.quick else 20, job.deadline)
        except torch.OutOfMemoryError:
            row |= {"failed": "out of memory"}
        print(_shown(row))
        yield row
        gc.collect()
        if job.gpu:
            torch.cuda.empty_cache()


def measure(run: Way, setting: Setting, rounds: int, deadline: float) -> Row:
    gpu = setting.device.type == "cuda"
    for _ in range(5 if gpu else 1):
        loss = run()
    if gpu:
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        times = _device_times(run, rounds)
    else:
        times = [_clock(run) * 1e3 for _ in range(rounds)]
    ms = statistics.median(times)
    row = {"loss": float(loss), "ms": ms, "images_s": setting.batch / ms * 1e3, "rounds": rounds}
    if gpu:
        row["peak_gib"] = torch.cuda.max_memory_allocated() / 2**30
        row["host_ms"] = _host_time(run)
    return row if time.time() > deadline else {**row, **requests(run, setting.device)}


def _device_times(run: Way, rounds: int) -> list[float]:
    """Milliseconds of each step from the end of the one before, without a wait between them."""
    marks = [torch.cuda.Event(enable_timing=True) for _ in range(rounds + 1)]
    marks[0].record()
    for mark in marks[1:]:
        run()
        mark.record()
    torch.cuda.synchronize()
    return [before.elapsed_time(after) for before, after in pairwise(marks)]


def _host_time(run: Way) -> float:
    """Milliseconds of the host until a step is queued on an idle device."""
    times = []
    for _ in range(5):
        torch.cuda.synchronize()
        times.append(_clock(run) * 1e3)
    return statistics.median(times)


def _shown(row: Row) -> str:
    start = f"{row['way']:<32} {row['batch']:>5} images"
    if "failed" in row:
        return f"{start} {row['failed']}"
    units = {"ms": "ms", "images_s": "images/s", "host_ms": "ms host", "peak_gib": "GiB", "launches": "launches"}
    units |= {"outside_convolutions": "outside convolutions", "waits": "waits", "operations": "operations"}
    return start + "".join(f"  {row[key]:.4g} {unit}" for key, unit in units.items() if key in row)


def collectives(job: Job) -> Iterator[Row]:
    """Collectives of our step as one of two ranks that only count them; the network is a ResNet-50."""
    setting = Setting("resnet50", 64, 4, torch.device("cpu"), small=job.quick)
    run = OurStep(setting, PretendedRanks(2))
    for _ in range(2):  # the second one rearranges the buckets of gradients
        run()
    found = collectives_of(run)
    print(f"collectives in a step: {sum(found.values())}  {found}")
    yield {"what": "collectives", "world": 2, "total": sum(found.values()), "kinds": found}


def loader(job: Job) -> Iterator[Row]:
    """Two views of synthetic faces by DALI, images a second."""
    import input as input_benchmark

    from fra_dist.data.making.shard_making import ShardOptions, make_shards

    threads = min(16, os.cpu_count() or 1)
    count, batch, batches, size = (48, 4, 2, 64) if job.quick else (512, 128, 12, 224)
    args = argparse.Namespace(threads=threads, batch=batch, batches=batches)
    with tempfile.TemporaryDirectory() as scratch:
        options = ShardOptions(shard_samples=64, workers=threads)
        manifest = make_shards(f"synthetic:{count}@{size * 3 // 2}", Path(scratch) / "faces", options)
        for decode in ("once", "crops"):
            way = partial(input_benchmark.ours, args, manifest, size, "dali", decode)
            rate = input_benchmark.rate(way, args)
            print(f"DALI, decode {decode}: {rate:.0f} images/s at {size} px, {threads} threads")
            yield {"decode": decode, "size": size, "threads": threads, "batch": batch, "images_s": rate}
            if time.time() > job.deadline:
                return


def _step(name: str, make: Callable[[Setting], Way], needs: float, **missing: Any) -> dict[str, Part]:
    return {f"step: {name}": Part(partial(whole_step, name, make), needs, **missing)}


def _published(job: Job) -> Iterator[Row]:
    assert job.published is not None
    return whole_step("published", partial(published, checkout=job.published, adapter=job.published_step), job)


def _graphs(job: Job) -> str:
    return _gpu_only(job) or ("" if has_setting("cuda_graphs") else "there is no train.cuda_graphs")


def _no_dali(job: Job) -> str:
    return "" if importlib.util.find_spec("nvidia.dali") else "DALI is not installed"


def _gpu_only(job: Job) -> str:
    return "" if job.gpu else "GPU only"


def _compiler(job: Job) -> str:
    return "" if job.gpu else "compiling is not worth its time on a CPU"


PARTS: dict[str, Part] = {
    "ceilings": Part(ceilings, 5),
    "self-check": Part(self_check, 10, _gpu_only),
    **_step("ours", OurStep, 30),
    **_step("eager", plainly, 30),
    **_step("eager channels-last", partial(plainly, channels_last=True), 30),
    "step: published": Part(_published, 30, lambda job: "" if job.published else "no --published"),
    **_step("ours, CUDA graph", partial(OurStep, cuda_graphs=True), 30, missing=_graphs),
    **{f"kernel: {name}": Part(partial(kernel, name), 20) for name in KERNELS},
    **_step("torch.compile", partial(plainly, channels_last=True, compiled=True), 60, missing=_compiler),
    "collectives": Part(collectives, 10),
    "loader": Part(loader, 25, _no_dali),
    **_step("ours, compiled", partial(OurStep, compile=True), 60, missing=_compiler),
    **_step("ours, DeepSpeed", partial(OurStep, backend="deepspeed"), 30, missing=_gpu_only),
}
"""In the order of their worth, should the time not suffice."""
