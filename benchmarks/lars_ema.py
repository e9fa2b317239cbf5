"""Time a step of LARS and the EMA over all parameters, against a loop over tensors and multi-tensor calls.

    python benchmarks/lars_ema.py                        # prints a table
    python benchmarks/lars_ema.py --out benchmarks/results

The parameters are those of a model with its target, a large one on a GPU. An implementation must move 9 numbers a
parameter: read weight and gradient for the norms, read weight, gradient, velocity and target, write three of them.
On a GPU the host's time until all is queued is measured too. Times are medians.
"""

import argparse
import statistics
import time
from collections.abc import Callable, Iterator
from typing import Any

import torch
from measuring import copy_rate, in_turns, report
from torch import Tensor

from fra_dist.config import ModelConfig
from fra_dist.kernels import force
from fra_dist.kernels.lars_ema import lars_ema
from fra_dist.models.fra import FRA

Lists = tuple[list[Tensor], list[Tensor], list[Tensor], list[Tensor]]
LR, MOMENTUM, TRUST, DECAY, EMA = 0.1, 0.9, 0.001, 1e-6, 0.996


def problem(backbone: str, device: str) -> Lists:
    """Parameters (those with a target first), gradients, velocities, targets."""
    model = FRA(ModelConfig(backbone=backbone)).to(device)
    targets = [p.detach() for p in model.target.parameters()]
    parameters = [p.detach() for p in model.online.parameters()]
    known = {id(p) for p in model.online.parameters()}
    parameters += [p.detach() for p in model.parameters() if p.requires_grad and id(p) not in known]
    return parameters, [torch.randn_like(p) for p in parameters], [torch.zeros_like(p) for p in parameters], targets


def one_by_one(
    parameters: list[Tensor], gradients: list[Tensor], velocities: list[Tensor], targets: list[Tensor]
) -> None:
    """A loop that looks at the norms of each tensor on the host."""
    for p, g, v in zip(parameters, gradients, velocities, strict=True):
        change = g
        if p.dim() > 1:
            p_norm, g_norm = p.norm().item(), g.norm().item()
            ratio = TRUST * p_norm / (g_norm + DECAY * p_norm + 1e-8) if p_norm > 0 else 1.0
            change = (g + DECAY * p) * ratio
        v.mul_(MOMENTUM).add_(change, alpha=LR)
        p.sub_(v)
    for target, p in zip(targets, parameters, strict=False):
        target.mul_(EMA).add_(p, alpha=1 - EMA)


def at_once(parameters: list[Tensor], gradients: list[Tensor], velocities: list[Tensor], targets: list[Tensor]) -> None:
    adapt = [p.dim() > 1 for p in parameters]
    lars_ema(
        parameters,
        gradients,
        velocities,
        weight_decay=[DECAY * yes for yes in adapt],
        adapt=adapt,
        lr=LR,
        momentum=MOMENTUM,
        trust=TRUST,
        targets=targets,
        target_momentum=EMA,
    )


def under(path: str, run: Callable[[], None]) -> Callable[[], None]:
    def forced() -> None:
        with force(path):
            run()

    return forced


def paths(lists: Lists) -> dict[str, Callable[[], None]]:
    return {
        "one by one": lambda: one_by_one(*lists),
        "multi-tensor": under("reference", lambda: at_once(*lists)),
    }


def on_gpu(sizes: argparse.Namespace) -> Iterator[dict[str, Any]]:
    from triton.testing import do_bench

    rate = copy_rate()
    lists = problem("resnet50", "cuda")
    count, followed = (sum(x.numel() for x in tensors) for tensors in (lists[0], lists[3]))
    least = 4 * (7 * count + 2 * followed)
    size = f"{len(lists[0])} tensors, {count / 1e6:.1f} M parameters, at least {least / 1e9:.2f} GB"
    print(f"device copy {rate:.0f} GB/s; {size}")
    print(f"{'path':<14} {'ms':>8} {'host, ms':>9} {'GB/s':>7} {'of copy':>8} {'× first':>8}")
    first = None
    for name, run in (paths(lists) | {"ours": under("triton", lambda: at_once(*lists))}).items():
        ms = do_bench(run, return_mode="median")
        first = first or ms
        host = queueing(run)
        speed = least / ms / 1e6
        print(f"{name:<14} {ms:8.3f} {host:9.3f} {speed:7.0f} {speed / rate:8.1%} {first / ms:8.2f}")
        yield {"path": name, "ms": ms, "host_ms": host, "gb_s": speed, "of_copy": speed / rate}


def queueing(run: Callable[[], None], rounds: int = 20) -> float:
    """Milliseconds of the host until a step is queued on an idle device."""
    times = []
    for _ in range(rounds):
        torch.cuda.synchronize()
        start = time.perf_counter()
        run()
        times.append((time.perf_counter() - start) * 1e3)
    return statistics.median(times)


def on_cpu(sizes: argparse.Namespace) -> Iterator[dict[str, Any]]:
    lists = problem("tiny", "cpu")
    times = in_turns(list(paths(lists).values()))
    print(f"{len(lists[0])} tensors, {sum(p.numel() for p in lists[0]) / 1e6:.1f} M parameters")
    print(f"one by one {times[0]:.2f} ms, ours {times[1]:.2f} ms, ratio {times[0] / times[1]:.2f}")
    yield {"one_by_one_ms": times[0], "ms": times[1]}


if __name__ == "__main__":
    report("lars_ema", __doc__, on_gpu, on_cpu, {})
