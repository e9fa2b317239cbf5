"""Time the decoder's attention over pixels, forward and backward, against eager PyTorch, SDPA and torch.compile.

    python benchmarks/decoder_attention.py                        # prints a table
    python benchmarks/decoder_attention.py --out benchmarks/results

An implementation must read the map once forward and once backward and write its gradient; what is Q queries wide is
small next to that. On a GPU the share is of the rate of a device copy measured in the same run. On a CPU: the path that
runs there. Times are medians.
"""

import argparse
from collections.abc import Callable, Iterator
from typing import Any

import torch
from measuring import copy_rate, in_turns, report
from torch import Tensor
from torch.nn import functional

from fra_dist.kernels import force
from fra_dist.kernels.decoder_attention import decoder_attention, plain_attention

HEADS = 8
Attention = Callable[..., Tensor]


def as_written(queries: Tensor, memory: Tensor, code: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Three projections, scores, softmax, values, one after the other."""
    keys = memory + code.to(memory.dtype)
    parts = zip((queries, keys, memory), weight.chunk(3), bias.chunk(3), strict=True)
    q, k, v = (functional.linear(x, w, b).unflatten(2, (HEADS, -1)).transpose(1, 2) for x, w, b in parts)
    weights = (q @ k.transpose(2, 3) / q.shape[3] ** 0.5).softmax(dim=3)
    return (weights.to(v.dtype) @ v).transpose(1, 2).flatten(2)


def with_keys(*inputs: Tensor) -> Tensor:
    return plain_attention(*inputs, HEADS, 0.0, None)


def ours(*inputs: Tensor) -> Tensor:
    return decoder_attention(*inputs, HEADS)


def problem(sizes: argparse.Namespace, side: int, dtype: torch.dtype, device: str) -> list[Tensor]:
    pixels, width = side * side, sizes.width
    queries = torch.randn(sizes.batch, sizes.queries, width, dtype=dtype, device=device)
    memory = torch.randn(sizes.batch, pixels, width, dtype=dtype, device=device)
    weight = torch.randn(3 * width, width, device=device, dtype=dtype) / width**0.5
    bias = torch.randn(3 * width, device=device, dtype=dtype)
    code = torch.randn(pixels, width, device=device, dtype=dtype)
    return [queries.requires_grad_(), memory.requires_grad_(), code, weight.requires_grad_(), bias.requires_grad_()]


def both_passes(attention: Attention, inputs: list[Tensor]) -> Callable[[], Any]:
    with torch.no_grad():
        given = torch.randn_like(attention(*inputs))
    return lambda: torch.autograd.grad(attention(*inputs), [x for x in inputs if x.requires_grad], given)


def on_gpu(sizes: argparse.Namespace) -> Iterator[dict[str, Any]]:
    from triton.testing import do_bench

    rate = copy_rate()
    print(f"device copy {rate:.0f} GB/s, {sizes.queries} queries, width {sizes.width}, {HEADS} heads")
    print(f"{'map':>7} {'path':<14} {'ms':>8} {'GB/s':>7} {'of copy':>8} {'× eager':>8}")
    paths = {"eager": as_written, "SDPA": with_keys, "torch.compile": torch.compile(as_written), "ours": ours}
    for side in (7, 14, 28, 56):
        inputs = problem(sizes, side, getattr(torch, sizes.dtype), "cuda")
        eager = None
        for name, attention in paths.items():
            with force("triton" if name == "ours" else "auto"):
                ms = do_bench(both_passes(attention, inputs), return_mode="median")
            eager = eager or ms
            speed = 3 * inputs[1].nbytes / ms / 1e6
            print(f"{side:>3}x{side:<3} {name:<14} {ms:8.3f} {speed:7.0f} {speed / rate:8.1%} {eager / ms:8.2f}")
            yield {"side": side, "path": name, "ms": ms, "gb_s": speed, "of_copy": speed / rate}


def on_cpu(sizes: argparse.Namespace) -> Iterator[dict[str, Any]]:
    print(f"{'map':>7} {'as written, ms':>15} {'SDPA, ms':>9} {'ours, ms':>9} {'ratio':>6}")
    for side in (7, 14):
        inputs = problem(sizes, side, torch.float32, "cpu")
        times = in_turns([both_passes(attention, inputs) for attention in (as_written, with_keys, ours)])
        shown = f"{times[0]:15.2f} {times[1]:9.2f} {times[2]:9.2f} {times[0] / times[2]:6.2f}"
        print(f"{side:>3}x{side:<3} {shown}")
        yield {"side": side, "as_written_ms": times[0], "sdpa_ms": times[1], "ms": times[2]}


if __name__ == "__main__":
    sizes = {"batch": (256, 16), "queries": (8, 8), "width": (256, 256)}
    report("decoder_attention", __doc__, on_gpu, on_cpu, sizes)
