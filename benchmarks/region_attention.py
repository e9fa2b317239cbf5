"""Time region attention, forward and backward, against eager PyTorch and torch.compile.

    python benchmarks/region_attention.py                        # prints a table
    python benchmarks/region_attention.py --out benchmarks/results

On a GPU the four ways are timed from a cold L2 cache and set against the bytes that any implementation must move: the
maps read once forward and once backward, their gradients written once, and (B, Q, H·W) in between. The share is of the
rate of a device copy measured in the same run. On a CPU the path that runs there is compared with the formulas as
written. Times are medians.
"""

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
from torch import Tensor
from torch.nn import functional

from fra_dist.kernels import force
from fra_dist.kernels.region_attention import EPSILON, reference, region_attention

Attention = Callable[[Tensor, Tensor, Tensor, float], tuple[Tensor, Tensor]]
TEMPERATURE = 1.0


def as_written(features: Tensor, pixels: Tensor, prototypes: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
    """The formulas one after the other, on (B, D, H·W), products in the dtype of the maps as under autocast."""
    unit = functional.normalize(pixels.flatten(2), dim=1)
    centres = functional.normalize(prototypes, dim=1).to(unit.dtype)
    similarity = (centres @ unit).float()
    weights = (similarity / temperature).softmax(dim=1) + EPSILON
    pooled = weights.to(features.dtype) @ features.flatten(2).transpose(1, 2)
    regions = pooled / weights.sum(dim=2, keepdim=True).to(features.dtype)
    return similarity.unflatten(2, pixels.shape[2:]), regions


def fused(features: Tensor, pixels: Tensor, prototypes: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
    with force("triton"):
        return region_attention(features, pixels, prototypes, temperature)


def draw(shape: tuple[int, ...], dtype: torch.dtype, device: str, layout: torch.memory_format) -> Tensor:
    return torch.randn(shape, dtype=dtype, device=device).contiguous(memory_format=layout).requires_grad_()


def problem(
    sizes: argparse.Namespace, side: int, width: int, dtype: torch.dtype, device: str, layout: torch.memory_format
) -> tuple[Tensor, Tensor, Tensor]:
    features = draw((sizes.batch, sizes.channels, side, side), dtype, device, layout)
    pixels = draw((sizes.batch, width, side, side), dtype, device, layout)
    prototypes = torch.randn(sizes.regions, width, device=device, requires_grad=True)
    return features, pixels, prototypes


def both_passes(attention: Attention, inputs: tuple[Tensor, Tensor, Tensor]) -> Callable[[], Any]:
    with torch.no_grad():
        given = [torch.randn_like(x) for x in attention(*inputs, TEMPERATURE)]
    return lambda: torch.autograd.grad(attention(*inputs, TEMPERATURE), inputs, given)


def least_bytes(inputs: tuple[Tensor, Tensor, Tensor]) -> int:
    """Bytes of one forward and one backward pass that no implementation can avoid."""
    features, pixels, prototypes = inputs
    maps = features.nbytes + pixels.nbytes
    between = 4 * features.shape[0] * len(prototypes) * features.shape[2] * features.shape[3]
    regions = features.shape[0] * len(prototypes) * features.shape[1] * features.element_size()
    forward = maps + between + regions
    backward = 2 * maps + 2 * between + regions
    return forward + backward


def copy_rate() -> float:
    """GB/s of a device copy, reads and writes counted."""
    from triton.testing import do_bench

    source = torch.empty(2**30, dtype=torch.int8, device="cuda")
    target = torch.empty_like(source)
    return 2 * source.nbytes / do_bench(lambda: target.copy_(source), return_mode="median") / 1e6


def largest_error(sizes: argparse.Namespace, dtype: torch.dtype) -> float:
    """Of outputs and gradients against float64, over the largest value, on a few images with poisoned outputs."""
    few = argparse.Namespace(**{**vars(sizes), "batch": 3})
    torch.use_deterministic_algorithms(True, warn_only=True)  # fills new tensors with NaN
    inputs = problem(few, 14, sizes.width, dtype, "cuda", torch.channels_last)
    outputs = fused(*inputs, TEMPERATURE)
    given = [torch.randn_like(x) for x in outputs]
    results = *outputs, *torch.autograd.grad(outputs, inputs, given)
    torch.use_deterministic_algorithms(False)
    features, pixels, prototypes = (x.detach().double().requires_grad_() for x in inputs)
    exact = features, pixels, prototypes
    outputs = reference(*exact, TEMPERATURE)
    wanted = *outputs, *torch.autograd.grad(outputs, exact, [x.double() for x in given])
    pairs = zip(results, wanted, strict=True)
    return max(float(((a.double() - b).abs().max() / b.abs().max()).detach()) for a, b in pairs)


def on_gpu(sizes: argparse.Namespace) -> Iterator[dict[str, Any]]:
    from triton.testing import do_bench

    dtype = getattr(torch, sizes.dtype)
    rate = copy_rate()
    print(f"device copy {rate:.0f} GB/s; largest error {largest_error(sizes, dtype):.1e}")
    print(f"{'map':>7} {'path':<14} {'ms':>8} {'GB/s':>7} {'of copy':>8} {'× eager':>8}")
    paths = {"eager": as_written, "reference": reference, "torch.compile": torch.compile(as_written), "ours": fused}
    for side in sizes.sides:
        inputs = problem(sizes, side, sizes.width, dtype, "cuda", torch.channels_last)
        eager = None
        for name, attention in paths.items():
            try:
                ms = do_bench(both_passes(attention, inputs), return_mode="median")
            except torch.OutOfMemoryError:
                print(f"{side:>3}x{side:<3} {name:<14} out of memory")
                continue
            eager = ms if name == "eager" else eager
            speed = least_bytes(inputs) / ms / 1e6
            gain = eager / ms if eager else float("nan")
            print(f"{side:>3}x{side:<3} {name:<14} {ms:8.3f} {speed:7.0f} {speed / rate:8.1%} {gain:8.2f}")
            yield {"side": side, "path": name, "ms": ms, "gb_s": speed, "share_of_copy": speed / rate}


def on_cpu(sizes: argparse.Namespace) -> Iterator[dict[str, Any]]:
    print(f"{torch.get_num_threads()} threads, {sizes.batch} images, C {sizes.channels}, Q {sizes.regions}, fp32")
    print(f"{'map':>7} {'D':>5} {'layout':<14} {'as written, ms':>15} {'ours, ms':>9} {'ratio':>6}")
    for width in (64, sizes.width):
        for layout in (torch.contiguous_format, torch.channels_last):
            inputs = problem(sizes, 8, width, torch.float32, "cpu", layout)
            times = in_turns([both_passes(attention, inputs) for attention in (as_written, region_attention)])
            name = "NCHW" if layout == torch.contiguous_format else "channels-last"
            print(f"    8x8 {width:>5} {name:<14} {times[0]:15.2f} {times[1]:9.2f} {times[0] / times[1]:6.2f}")
            yield {"side": 8, "width": width, "layout": name, "as_written_ms": times[0], "ms": times[1]}


def in_turns(runs: list[Callable[[], Any]], rounds: int = 40) -> list[float]:
    """Median milliseconds of each, taking turns so that other load on the machine meets all of them alike."""
    times: list[list[float]] = [[] for _ in runs]
    for _ in range(rounds):
        for run, record in zip(runs, times, strict=True):
            start = time.perf_counter()
            run()
            record.append((time.perf_counter() - start) * 1e3)
    return [statistics.median(record) for record in times]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--batch", type=int, help="images (256 on a GPU, 64 on a CPU)")
    parser.add_argument("--channels", type=int, help="C (2048 on a GPU, 128 on a CPU)")
    parser.add_argument("--width", type=int, default=256, help="D")
    parser.add_argument("--regions", type=int, default=8, help="Q")
    parser.add_argument("--sides", type=int, nargs="+", default=[7, 14, 28, 56], help="map sides, GPU only")
    parser.add_argument("--dtype", choices=["bfloat16", "float16", "float32"], default="bfloat16", help="GPU only")
    parser.add_argument("--out", type=Path, help="folder; appends to region_attention.jsonl in it")
    sizes = parser.parse_args()
    gpu = torch.cuda.is_available()
    sizes.batch = sizes.batch or (256 if gpu else 64)
    sizes.channels = sizes.channels or (2048 if gpu else 128)
    device = torch.cuda.get_device_name() if gpu else f"{platform.machine()} CPU, {torch.get_num_threads()} threads"
    print(f"{device}, torch {torch.__version__}, triton {metadata.version('triton')}")
    rows = list(on_gpu(sizes) if gpu else on_cpu(sizes))
    if sizes.out:
        common = {"device": device, "torch": torch.__version__, "triton": metadata.version("triton")}
        common |= {"batch": sizes.batch, "channels": sizes.channels, "regions": sizes.regions}
        common |= {"date": time.strftime("%Y-%m-%d"), "width": sizes.width}
        common |= {"dtype": sizes.dtype if gpu else "float32"}
        sizes.out.mkdir(parents=True, exist_ok=True)
        with (sizes.out / "region_attention.jsonl").open("a") as file:
            file.writelines(json.dumps(common | row) + "\n" for row in rows)


if __name__ == "__main__":
    main()
