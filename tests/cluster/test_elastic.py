"""The real trainer on 4, 2, 3 and 1 gloo ranks one after the other: one run, with one order of samples."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cluster.waiting import events, rows, until

pytestmark = [pytest.mark.cluster, pytest.mark.faults, pytest.mark.timeout(1200)]
ROOT = Path(__file__).parents[2]
STEPS, EACH = 28, 6


def command(run: Path, shards: Path, ranks: int, *more: str) -> list[str]:
    settings = ["--config", str(ROOT / "configs" / "debug_cpu.yaml"), f"output={run}", f"data.shards={shards}"]
    settings += [f"train.steps={STEPS}", "train.global_batch=24", "log.heatmaps_every=0", "log.tensorboard=false"]
    settings += ["data.pipeline=torch", "data.threads=1", "log.samples=true"]
    launch = [sys.executable, "-m", "fra_dist.cli.main", "launch", "torchrun", "--ranks-per-node", str(ranks)]
    return [*launch, *settings, "checkpoint.every_steps=100", *more]


def go(run: Path, shards: Path, ranks: int, *more: str, leave_after: int = STEPS) -> None:
    process = subprocess.Popen(command(run, shards, ranks, *more))
    try:
        if leave_after < STEPS:
            until(
                lambda: max((row["step"] for row in rows(run / "metrics.jsonl")), default=0) >= leave_after,
                150,
                "steps",
            )
            process.terminate()
        assert process.wait(450) == (75 if leave_after < STEPS else 0)
    finally:
        process.kill()


def global_batches(run: Path) -> dict[int, tuple[int, list[int]]]:
    """{step: (world, ids in the order of the global batch)}, put together from the logs of all ranks."""
    parts: dict[int, dict[int, tuple[int, list[int]]]] = {}
    for path in run.glob("samples/rank-*.jsonl"):
        for row in rows(path):
            parts.setdefault(row["step"], {})[int(path.stem[5:])] = (row["world"], row["ids"])
    batches = {}
    for step, ranks in parts.items():
        world = ranks[0][0]
        assert sorted(ranks) == list(range(world))
        batches[step] = (
            world,
            [one for group in zip(*(ranks[r][1] for r in range(world)), strict=True) for one in group],
        )
    return batches


def losses(run: Path) -> dict[int, float]:
    return {row["step"]: row["loss/total"] for row in rows(run / "metrics.jsonl")}


def same_samples(run: Path, calm: Path) -> list[int]:
    """Assert that both runs read the same global batches in the same order; the world sizes of `run`'s steps."""
    batches, straight = global_batches(run), global_batches(calm)
    assert sorted(batches) == sorted(straight) == list(range(1, STEPS + 1))
    assert [batches[step][1] for step in sorted(batches)] == [straight[step][1] for step in sorted(straight)]
    return [batches[step][0] for step in sorted(batches)]


def test_world_4_2_3_1(small_shards: Path, run: Path) -> None:
    """The statistics of batch norm are those of the whole batch, so the losses are the same numbers."""
    calm = run.with_name("calm")
    go(calm, small_shards, 1)
    for ranks, leave_after in ((4, EACH), (2, 2 * EACH), (3, 3 * EACH), (1, STEPS)):
        go(run, small_shards, ranks, leave_after=leave_after)
    worlds = same_samples(run, calm)
    assert sorted(set(worlds), key=worlds.index) == [4, 2, 3, 1]
    straight = losses(calm)
    difference = {step: abs(loss - straight[step]) for step, loss in losses(run).items()}
    changes = [step for step in range(2, STEPS + 1) if worlds[step - 1] != worlds[step - 2]]
    assert all(difference[step] < 1e-5 for step in changes[:1])
    assert max(difference.values()) < 1e-3, difference
    (done,) = events(run, "complete")
    assert done["step"] == STEPS


def test_passes_stay_small_when_ranks_go(small_shards: Path, run: Path) -> None:
    """Then batch norm sees smaller groups, so the losses continue, but are not the same numbers."""
    calm = run.with_name("calm")
    go(calm, small_shards, 2, "train.micro_batch=6")
    go(run, small_shards, 2, "train.micro_batch=6", leave_after=EACH)
    go(run, small_shards, 1, "train.micro_batch=6")
    worlds = same_samples(run, calm)
    assert set(worlds) == {2, 1}
    straight = losses(calm)
    difference = {step: abs(loss - straight[step]) for step, loss in losses(run).items()}
    assert max(difference[step] for step in difference if worlds[step - 1] == 2) == 0
    assert 0 < max(difference.values()) < 0.5, difference


def test_batch_that_cannot_be_divided(small_shards: Path, run: Path) -> None:
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    said = subprocess.run(command(run, small_shards, 5), env=env, capture_output=True, text=True, timeout=450)
    assert said.returncode == 2
    assert "cannot be divided over 5 ranks" in said.stderr
    assert "use 2 or 3 or 4 or 6 ranks" in said.stderr
    assert not (run / "checkpoints").exists()
    assert not run.exists()
