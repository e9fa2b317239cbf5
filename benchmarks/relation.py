"""Time the semantic relation loss, forward and backward, against the formulas as written and torch.compile.

    python benchmarks/relation.py                        # prints a table
    python benchmarks/relation.py --out benchmarks/results

On a GPU: two views; the bytes that any implementation must move are the teacher's similarities once a round, both
networks' once each way, and the gradient; at 7×7 launches count for more, so a graph's replay is timed as well. On a
CPU: the path that runs there against the formulas. Times are medians.
"""

import argparse
from collections.abc import Callable, Iterator
from typing import Any

import torch
from measuring import copy_rate, in_turns, report
from torch import Tensor

from fra_dist.distributed import SINGLE
from fra_dist.kernels import force
from fra_dist.kernels.relation import semantic_relation
from fra_dist.losses import relation as loss

ROUNDS = 3
SETTINGS = {"student_temperature": 0.1, "teacher_temperature": 0.04, "rounds": ROUNDS, "cross": SINGLE}


def as_written(student: Tensor, teacher: Tensor) -> Tensor:
    """The matrix form of Sinkhorn, view by view, and the terms by autograd."""
    total = student.new_zeros(())
    for s, t in zip(student.flatten(3), teacher.flatten(3), strict=True):
        plan = (t / 0.04).softmax(dim=1).transpose(0, 1).flatten(1)
        plan = plan / plan.sum()
        for _ in range(ROUNDS):
            plan = plan / plan.sum(dim=1, keepdim=True) / plan.shape[0]
            plan = plan / plan.sum(dim=0, keepdim=True) / plan.shape[1]
        target = (plan * plan.shape[1]).unflatten(1, (len(s), -1)).transpose(0, 1)
        share = (s / 0.1).log_softmax(dim=1)
        mean = share.exp().mean(dim=(0, 2))
        total = total - (target * share).sum(dim=1).mean() + (mean * mean.log()).sum()
    return total


def by_autograd(student: Tensor, teacher: Tensor) -> Tensor:
    terms = loss.semantic_relation(student, teacher, **SETTINGS)
    return (terms.cross_entropy + terms.entropy_gap).sum()


def ours(student: Tensor, teacher: Tensor) -> Tensor:
    cross_entropy, gap, _ = semantic_relation(student, teacher, **SETTINGS)
    return (cross_entropy + gap).sum()


def problem(batch: int, regions: int, side: int, device: str) -> list[Tensor]:
    student, teacher = torch.rand(2, 2, batch, regions, side, side, device=device) * 2 - 1
    return [student.requires_grad_(), teacher]


def both_passes(terms: Callable[..., Tensor], inputs: list[Tensor]) -> Callable[[], Any]:
    return lambda: torch.autograd.grad(terms(*inputs), inputs[0])


def least_bytes(inputs: list[Tensor]) -> int:
    return (ROUNDS + 2 + 2 + 1) * inputs[0].nbytes


def on_gpu(sizes: argparse.Namespace) -> Iterator[dict[str, Any]]:
    from triton.testing import do_bench, do_bench_cudagraph

    rate = copy_rate()
    print(f"device copy {rate:.0f} GB/s, {sizes.regions} regions")
    print(f"{'map':>7} {'path':<14} {'ms':>8} {'replayed':>9} {'GB/s':>7} {'of copy':>8} {'× written':>9}")
    paths = {"as written": as_written, "by autograd": by_autograd, "torch.compile": torch.compile(as_written)}
    for side in (7, 14, 28, 56):
        inputs = problem(sizes.batch, sizes.regions, side, "cuda")
        written = None
        for name, terms in {**paths, "ours": ours}.items():
            run = both_passes(terms, inputs)
            with force("triton" if name == "ours" else "auto"):
                ms, replay = do_bench(run, return_mode="median"), float("nan")
                if name == "ours":
                    replay = do_bench_cudagraph(run, return_mode="median")
            written = written or ms
            speed = least_bytes(inputs) / (ms if replay != replay else replay) / 1e6
            shown = f"{ms:8.3f} {replay:9.3f} {speed:7.0f} {speed / rate:8.1%} {written / ms:9.2f}"
            print(f"{side:>3}x{side:<3} {name:<14} {shown}")
            yield {"side": side, "path": name, "ms": ms, "replay_ms": replay, "gb_s": speed}


def on_cpu(sizes: argparse.Namespace) -> Iterator[dict[str, Any]]:
    print(f"{'map':>7} {'as written, ms':>15} {'by autograd':>12} {'ours, ms':>9} {'ratio':>6}")
    for side in (7, 14):
        inputs = problem(sizes.batch, sizes.regions, side, "cpu")
        times = in_turns([both_passes(terms, inputs) for terms in (as_written, by_autograd, ours)])
        shown = f"{times[0]:15.2f} {times[1]:12.2f} {times[2]:9.2f} {times[0] / times[2]:6.2f}"
        print(f"{side:>3}x{side:<3} {shown}")
        yield {"side": side, "as_written_ms": times[0], "by_autograd_ms": times[1], "ms": times[2]}


if __name__ == "__main__":
    report("relation", __doc__, on_gpu, on_cpu, {"batch": (256, 32), "regions": (8, 8)})
