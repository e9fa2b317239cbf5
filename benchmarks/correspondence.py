"""Time the correspondence of pixels, forward and backward, against the formulas as written and torch.compile.

    python benchmarks/correspondence.py                        # prints a table
    python benchmarks/correspondence.py --out benchmarks/results

One direction, without exchange. The bytes that any implementation must move are queries and keys once each way, their
gradients and three numbers a pixel. On a GPU: medians, and peak memory above the inputs. On a CPU: the path that runs
there against the formulas, which hold pixels against pixels of all images.
"""

import argparse
from collections.abc import Callable, Iterator
from typing import Any

import torch
from measuring import copy_rate, in_turns, report
from torch import Tensor
from torch.nn import functional

from fra_dist.kernels import force
from fra_dist.kernels.correspondence import correspondence

SPREAD, TEMPERATURE = 0.7, 0.1


def as_written(queries: Tensor, keys: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """Targets and cosines of all pairs of pixels, the gradient by autograd."""
    height, width = rows.shape[1], columns.shape[1]
    down = torch.arange(height, device=rows.device) - rows[:, :, None]
    along = torch.arange(width, device=rows.device) - columns[:, :, None]
    away = down.square()[:, :, None, :, None] + along.square()[:, None, :, None, :]
    target = (-away.flatten(3).flatten(1, 2) / (2 * SPREAD**2)).softmax(dim=2)
    found = (queries @ keys.transpose(1, 2) / TEMPERATURE).float().log_softmax(dim=2)
    return (target * (target.clamp_min(1e-38).log() - found)).sum(dim=2)


def ours(queries: Tensor, keys: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    return correspondence(queries, keys, rows, columns, spread=SPREAD, temperature=TEMPERATURE)


def problem(batch: int, width: int, side: int, device: str, dtype: torch.dtype) -> list[Tensor]:
    vectors = functional.normalize(torch.randn(2, batch, side * side, width, device=device), dim=3).to(dtype)
    places = torch.arange(side, device=device) * 0.8 + torch.rand(2, batch, 1, device=device)
    return [*(x.clone().requires_grad_() for x in vectors), *places]


def both_passes(terms: Callable[..., Tensor], inputs: list[Tensor]) -> Callable[[], Any]:
    return lambda: torch.autograd.grad(terms(*inputs).sum(), inputs[:2])


def least_bytes(inputs: list[Tensor]) -> int:
    return 3 * (inputs[0].nbytes + inputs[1].nbytes) + 3 * 4 * inputs[0].shape[0] * inputs[0].shape[1]


def on_gpu(sizes: argparse.Namespace) -> Iterator[dict[str, Any]]:
    from triton.testing import do_bench

    rate, dtype = copy_rate(), getattr(torch, sizes.dtype)
    print(f"device copy {rate:.0f} GB/s, {sizes.batch} images, width {sizes.width}, {sizes.dtype}")
    print(f"{'map':>7} {'path':<14} {'ms':>8} {'TFLOP/s':>8} {'of copy':>8} {'GiB':>6} {'× written':>9}")
    for side in (7, 14, 28):
        inputs, written = problem(sizes.batch, sizes.width, side, "cuda", dtype), None
        for name, terms in {"as written": as_written, "torch.compile": torch.compile(as_written), "ours": ours}.items():
            run = both_passes(terms, inputs)
            with force("triton" if name == "ours" else "auto"):
                ms = do_bench(run, return_mode="median")
                torch.cuda.reset_peak_memory_stats()
                before = torch.cuda.memory_allocated()
                run()
            gib = (torch.cuda.max_memory_allocated() - before) / 2**30
            written = written or ms
            speed = 6 * sizes.batch * side**4 * sizes.width / ms / 1e9  # three products of the formulas
            share = least_bytes(inputs) / ms / 1e6 / rate
            print(f"{side:>3}x{side:<3} {name:<14} {ms:8.3f} {speed:8.1f} {share:8.1%} {gib:6.2f} {written / ms:9.2f}")
            yield {"side": side, "path": name, "ms": ms, "tflop_s": speed, "of_copy": share, "peak_gib": gib}


def on_cpu(sizes: argparse.Namespace) -> Iterator[dict[str, Any]]:
    print(f"{'map':>7} {'as written, ms':>15} {'ours, ms':>9} {'ratio':>6}")
    for side in (7, 14):
        inputs = problem(sizes.batch, sizes.width, side, "cpu", torch.float32)
        times = in_turns([both_passes(terms, inputs) for terms in (as_written, ours)])
        print(f"{side:>3}x{side:<3} {times[0]:15.2f} {times[1]:9.2f} {times[0] / times[1]:6.2f}")
        yield {"side": side, "as_written_ms": times[0], "ms": times[1]}


if __name__ == "__main__":
    report("correspondence", __doc__, on_gpu, on_cpu, {"batch": (512, 32), "width": (256, 64)})
