"""The real trainer on 4, 2, 3 and 1 gloo ranks one after the other: one run, with one order of samples."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from waiting import events, rows, until

pytestmark = [pytest.mark.cluster, pytest.mark.faults, pytest.mark.timeout(280)]
ROOT = Path(__file__).parents[2]
STEPS, EACH = 28, 6


def command(run: Path, shards: Path, ranks: int, *more: str) -> list[str]:
    settings = ["--config", str(ROOT / "configs" / "debug_cpu.yaml"), f"output={run}", f"data.shards={shards}"]
    settings += [f"train.steps={STEPS}", "train.global_batch=24", "log.heatmaps_every=0", "log.tensorboard=false"]
    # dropout draws other numbers on other ranks, and would hide what is looked for here
    settings += ["data.pipeline=torch", "data.threads=1", "log.samples=true", "model.decoder.dropout=0"]
    launch = [sys.executable, "-m", "fra_dist.cli.main", "launch", "torchrun", "--ranks-per-node", str(ranks)]
    return [*launch, *settings, "checkpoint.every_steps=100", *more]


def go(run: Path, shards: Path, ranks: int, *more: str, leave_after: int = STEPS) -> None:
    process = subprocess.Popen(command(run, shards, ranks, *more))
    try:
        if leave_after < STEPS:
            until(
                lambda: max((row["step"] for row in rows(run / "metrics.jsonl")), default=0) >= leave_after,
                100,
                "steps",
            )
            process.terminate()
        assert process.wait(100) == (75 if leave_after < STEPS else 0)
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


@pytest.mark.parametrize("micro", [None, 6])
def test_world_4_2_3_1(small_shards: Path, run: Path, micro: int | None) -> None:
    more = [] if micro is None else [f"train.micro_batch={micro}"]
    calm = run.with_name("calm")
    go(calm, small_shards, 4, *more)
    for ranks, leave_after in ((4, EACH), (2, 2 * EACH), (3, 3 * EACH), (1, STEPS)):
        go(run, small_shards, ranks, *more, leave_after=leave_after)
    batches, straight = global_batches(run), global_batches(calm)
    assert [ids for _, (_, ids) in sorted(batches.items())] == [ids for _, (_, ids) in sorted(straight.items())]
    assert sorted(batches) == list(range(1, STEPS + 1))
    worlds = [world for _, (world, _) in sorted(batches.items())]
    assert sorted(set(worlds), key=worlds.index) == [4, 2, 3, 1]
    difference = {step: abs(loss - losses(calm)[step]) for step, loss in losses(run).items()}
    first_on_two = worlds.index(2) + 1
    if micro is None:  # the statistics of batch norm are those of the whole batch, so the losses are the same numbers
        assert difference[first_on_two] < 1e-5
        assert max(difference.values()) < 1e-3, difference
    else:  # with passes of fewer images they are those of other groups
        assert max(difference[step] for step in range(1, first_on_two)) == 0
        assert max(difference.values()) < 0.5, difference
    (done,) = events(run, "complete")
    assert done["step"] == STEPS


def test_batch_that_cannot_be_divided(small_shards: Path, run: Path) -> None:
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    said = subprocess.run(command(run, small_shards, 5), env=env, capture_output=True, text=True, timeout=100)
    assert said.returncode == 2
    assert "cannot be divided over 5 ranks" in said.stderr
    assert "use 3 or 4 or 6 or 8 ranks" in said.stderr
    assert not (run / "checkpoints").exists()
    assert json.loads((next(run.glob("launch/torchrun-*")) / "rank-0.json").read_text())["code"] == 2
