"""Collectives between ranks: on this machine (`check_ranks`), or those that a launcher started (`main`).

Rank 0 prints a JSON object: {"world", "backend", "bytes", "seconds", "right"} of a sum over the ranks.
"""

import json
import os
import socket
import subprocess
import sys
import time
from typing import Any

from fra_dist.doctor.result import CheckResult, fail, ok, warn
from fra_dist.doctor.subject import Subject
from fra_dist.formats import plural, size_text

_CPU_BYTES, _GPU_BYTES = 1 << 24, 1 << 28
_ROUNDS = 5
_MARK = "fra-dist ranks: "


def check_ranks(subject: Subject) -> CheckResult:
    """Whether ranks on this machine meet and sum, and at which bandwidth."""
    with socket.socket() as one:
        one.bind(("", 0))
        port = one.getsockname()[1]
    common = {"WORLD_SIZE": str(subject.ranks), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    command = [sys.executable, "-m", "fra_dist.doctor.rank_trial", _device(subject)]
    ranks = [
        subprocess.Popen(
            command,
            env={**os.environ, **common, "RANK": str(rank), "LOCAL_RANK": str(rank)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(subject.ranks)
    ]
    answers = [rank.communicate() for rank in ranks]
    for number, (rank, (_, errors)) in enumerate(zip(ranks, answers, strict=True)):
        if rank.returncode:
            last = (errors.strip().splitlines() or [f"status {rank.returncode}"])[-1]
            return fail(
                f"{subject.ranks} local ranks do not sum: rank {number}: {last[:200]}",
                "see `host name`, `interfaces` and `/dev/shm`; NCCL_DEBUG=INFO says more on GPUs",
            )
    row = printed_row(answers[0][0])
    return judge_sum(row) if row else fail("rank 0 printed nothing", "see `host name` and `interfaces`")


def printed_row(output: str) -> dict[str, Any] | None:
    """Return what rank 0 printed, from the output of all ranks; None when it printed nothing."""
    rows = [line.partition(_MARK)[2] for line in output.splitlines() if _MARK in line]
    return dict(json.loads(rows[-1])) if rows else None


def _device(subject: Subject) -> str:
    """`cuda` when every rank of the trial has a GPU of its own and GPUs are wanted, else `cpu`."""
    import torch

    return "cuda" if subject.device != "cpu" and torch.cuda.device_count() >= subject.ranks else "cpu"


def judge_sum(row: dict[str, Any]) -> CheckResult:
    """Return the finding for what rank 0 measured. Bus bandwidth is 2 (N - 1) / N x bytes / seconds, as NCCL counts."""
    world, size, seconds = int(row["world"]), float(row["bytes"]), max(float(row["seconds"]), 1e-9)
    rate = 2 * (world - 1) / world * size / seconds
    found = f"{plural(world, 'rank')} over {row['backend']}: {size_text(size)} summed in {seconds * 1e3:.1f} ms"
    found += f", {size_text(rate)}/s bus bandwidth" if world > 1 else ""
    if not row["right"]:
        return fail(f"{found}, but the sum is wrong", "another NCCL or driver; NCCL_P2P_DISABLE=1 tells which path")
    if row["backend"] == "nccl" and world > 1 and rate < 5e9:
        return warn(found, "GPUs exchange over slow paths: look at `nvidia-smi topo -m` and NCCL_DEBUG=INFO")
    return ok(found)


def main() -> int:
    """Sum a tensor over the ranks that the environment describes; rank 0 prints what it measured."""
    import torch

    from fra_dist import distributed

    ctx = distributed.start(sys.argv[1], timeout_minutes=1.0)
    size = (_GPU_BYTES if ctx.device.type == "cuda" else _CPU_BYTES) // 4
    data = torch.full((size,), float(ctx.rank + 1), device=ctx.device)
    right, best = True, float("inf")
    for _ in range(_ROUNDS):
        distributed.barrier()
        began = time.perf_counter()
        total = ctx.cross.sum(data)
        ends = float(total[0]), float(total[-1])  # on a GPU this waits for the collective
        best = min(best, time.perf_counter() - began)
        right = right and ends == (ctx.world * (ctx.world + 1) / 2,) * 2
    if ctx.is_main:
        backend = "nccl" if ctx.device.type == "cuda" else "gloo"
        row = {"world": ctx.world, "backend": backend, "bytes": 4 * size, "seconds": best, "right": right}
        print(_MARK + json.dumps(row), flush=True)
    distributed.barrier()
    distributed.stop()
    return 0


if __name__ == "__main__":
    sys.exit(main())
