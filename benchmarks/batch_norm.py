"""Time batch norm with residual and ReLU, forward and backward, against eager PyTorch and torch.compile.

    python benchmarks/batch_norm.py                        # prints a table
    python benchmarks/batch_norm.py --out benchmarks/results

On a GPU: maps of ResNet-50 at 224 px, two views of a batch with statistics of their own, set against the bytes that any
implementation must move, and the share of the rate of a device copy measured in the same run. On a CPU: the path that
runs there and PyTorch's own, on small maps. Times are medians.
"""

import argparse
from collections.abc import Callable, Iterator
from typing import Any

import torch
from measuring import copy_rate, in_turns, report
from torch import Tensor
from torch.nn import functional

from fra_dist.distributed import SINGLE
from fra_dist.kernels import force
from fra_dist.kernels.batch_norm import batch_norm

Norm = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]


def as_written(x: Tensor, weight: Tensor, bias: Tensor, residual: Tensor) -> Tensor:
    """View by view, one operation after the other."""
    views = [functional.batch_norm(view, None, None, weight, bias, training=True) for view in x.chunk(2)]
    return (torch.cat(views) + residual).relu()


def reference(x: Tensor, weight: Tensor, bias: Tensor, residual: Tensor) -> Tensor:
    with force("reference"):
        return batch_norm(x, weight, bias, residual, cross=SINGLE, groups=2, relu=True)[0]


def fused(x: Tensor, weight: Tensor, bias: Tensor, residual: Tensor) -> Tensor:
    with force("triton"):
        return batch_norm(x, weight, bias, residual, cross=SINGLE, groups=2, relu=True)[0]


def problem(batch: int, channels: int, side: int, dtype: torch.dtype, device: str) -> list[Tensor]:
    maps = [torch.randn(2 * batch, channels, side, side, dtype=dtype, device=device) for _ in range(2)]
    maps = [x.contiguous(memory_format=torch.channels_last) for x in maps]
    weight, bias = torch.randn(2, channels, device=device)
    return [x.requires_grad_() for x in (maps[0], weight, bias, maps[1])]


def both_passes(norm: Norm, inputs: list[Tensor]) -> Callable[[], Any]:
    given = torch.randn_like(inputs[0])
    return lambda: torch.autograd.grad(norm(*inputs), inputs, given)


def least_bytes(inputs: list[Tensor]) -> int:
    """Forward: x twice (the statistics come first), the residual, y; backward: dy, x and y give the residual's
    gradient, and it and x give that of x."""
    return (4 + 7) * inputs[0].nbytes


def largest_error(dtype: torch.dtype) -> float:
    inputs = problem(4, 200, 14, dtype, "cuda")
    given = torch.randn_like(inputs[0])
    exact = [x.detach().double().requires_grad_() for x in inputs]
    out, right = fused(*inputs), reference(*exact)
    results = [out, *torch.autograd.grad(out, inputs, given)]
    wanted = [right, *torch.autograd.grad(right, exact, given.double())]
    pairs = zip(results, wanted, strict=True)
    return max(float(((a.double() - b).abs().max() / b.abs().max()).detach()) for a, b in pairs)


def on_gpu(sizes: argparse.Namespace) -> Iterator[dict[str, Any]]:
    from triton.testing import do_bench

    dtype = getattr(torch, sizes.dtype)
    rate = copy_rate()
    print(f"device copy {rate:.0f} GB/s; largest error {largest_error(dtype):.1e}")
    print(f"{'map':>14} {'path':<14} {'ms':>8} {'GB/s':>7} {'of copy':>8} {'× eager':>8}")
    for side, channels in ((56, 64), (56, 256), (28, 512), (14, 1024), (7, 2048)):
        inputs = problem(sizes.batch, channels, side, dtype, "cuda")
        eager = None
        for name, norm in (("eager", as_written), ("torch.compile", torch.compile(as_written)), ("ours", fused)):
            ms = do_bench(both_passes(norm, inputs), return_mode="median")
            eager = eager or ms
            speed = least_bytes(inputs) / ms / 1e6
            place = f"{side}x{side}x{channels}"
            print(f"{place:>14} {name:<14} {ms:8.3f} {speed:7.0f} {speed / rate:8.1%} {eager / ms:8.2f}")
            yield {"side": side, "channels": channels, "path": name, "ms": ms, "gb_s": speed, "of_copy": speed / rate}


def on_cpu(sizes: argparse.Namespace) -> Iterator[dict[str, Any]]:
    print(f"{'map':>14} {'as written, ms':>15} {'ours, ms':>9} {'ratio':>6}")
    for side, channels in ((28, 64), (7, 256)):
        inputs = problem(sizes.batch, channels, side, torch.float32, "cpu")
        times = in_turns([both_passes(norm, inputs) for norm in (as_written, reference)])
        print(f"{f'{side}x{side}x{channels}':>14} {times[0]:15.2f} {times[1]:9.2f} {times[0] / times[1]:6.2f}")
        yield {"side": side, "channels": channels, "as_written_ms": times[0], "ms": times[1]}


if __name__ == "__main__":
    report("batch_norm", __doc__, on_gpu, on_cpu, {"batch": (256, 8)})
