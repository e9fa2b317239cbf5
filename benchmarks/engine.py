"""What training costs beside the arithmetic of its steps.

    python benchmarks/engine.py                                   # prints a table
    python benchmarks/engine.py --out benchmarks/results          # and adds a row a measurement to engine.jsonl
    python benchmarks/engine.py --only checkpoint_stall restart

A ResNet-18 with the published heads at 112 px on synthetic faces, unless options say otherwise. Each measurement is a
function of `MEASUREMENTS` and returns rows of (what, value, unit, target).
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch

from fra_dist.config import CheckpointConfig, Config, dump_config, load_config
from fra_dist.data.making.shard_making import ShardOptions, make_shards
from fra_dist.json_lines import read_rows
from fra_dist.launch.task import die_with_parent
from fra_dist.train.run_dir.folder import versions


@dataclass(frozen=True)
class Row:
    """One figure; `target` is a number that `value` should stay at or below, or None."""

    what: str
    value: float
    unit: str
    target: float | None = None

    def __str__(self) -> str:
        aim = "" if self.target is None else f"(target: at most {self.target:g} {self.unit})"
        return f"  {self.what:<66} {self.value:10.4g} {self.unit:<8} {aim}".rstrip()


@dataclass(frozen=True)
class Bench:
    """Shared by the measurements: a scratch folder with shards, and the options of the command line."""

    folder: Path
    args: argparse.Namespace

    def config(self, name: str, *overrides: str) -> Config:
        """The benchmark's configuration with a run folder of its own; overrides come last."""
        args = self.args
        words = [
            f"data.shards={self.folder / 'shards'}",
            f"output={self.folder / name}",
            f"data.threads={args.threads}",
        ]
        words += [f"model.backbone={args.backbone}", f"data.image_size={args.size}", f"train.global_batch={args.batch}"]
        words += ["train.steps=1000000", "log.tensorboard=false", "log.heatmaps_every=0", "log.heatmap_images=1"]
        return load_config(None, [*words, "optim.warmup_steps=10", *args.overrides, *overrides])

    def pretrain(self, config: Config) -> "subprocess.Popen[str]":
        """`fra-dist pretrain` in a process of its own; its output is read by the caller."""
        path = Path(config.output).with_suffix(".yaml")
        path.write_text(dump_config(config))
        command = [sys.executable, "-m", "fra_dist.cli.main", "pretrain", str(path)]
        env = {**os.environ, "OMP_NUM_THREADS": str(self.args.torch_threads)}
        ends = die_with_parent(os.getpid())
        return subprocess.Popen(
            command, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, preexec_fn=ends
        )


def checkpoint_stall(bench: Bench) -> list[Row]:
    """The share of a default interval that steps lose to a checkpoint: by waiting for the copy, and by sharing the
    machine with the thread that writes."""
    from fra_dist.train.checkpoints.writing import Contents

    with a_run(bench.config("stall")) as run:
        batches = iter(run.loader)

        def step() -> float:
            batch = next(batches)
            began = time.perf_counter()
            run.step.run(batch.step, batch.views)
            return time.perf_counter() - began

        def save(number: int) -> float:
            began = time.perf_counter()
            model, optimizer = run.engine.model_state(), run.engine.optimizer_state()
            assert run.saver.save(Contents(number, run.config, model, optimizer, {}))
            return time.perf_counter() - began

        for _ in range(2):
            step()
        quiet, busy, stalls, writes = [], [], [], []
        for number in range(bench.args.rounds):
            quiet += [step() for _ in range(bench.args.steps)]
            stalls.append(save(number))
            while run.saver.busy:
                busy.append(step())
            run.saver.wait(60)
            writes += [outcome.seconds for outcome in run.saver.finished() if outcome.error is None]
        size = sum(p.stat().st_size for p in sorted(run.folder.checkpoints.iterdir())[-1].iterdir())
    usual, interval = statistics.median(quiet), CheckpointConfig().every_steps
    slowed = max(0.0, sum(busy) - len(busy) * usual) / bench.args.rounds
    later = statistics.median(stalls[1:] or stalls)
    return [
        Row("a step", usual, "s"),
        Row("size of a checkpoint", size / 1e6, "MB"),
        Row("writing it, in the background", statistics.median(writes), "s"),
        Row("the step waits for the first copy (buffers are made)", stalls[0], "s"),
        Row("the step waits for later ones", later, "s"),
        Row(f"that is, of {interval} steps", 100 * later / (interval * usual), "%", 1.0),
        Row(f"steps slowed down meanwhile, of {interval} steps", 100 * slowed / (interval * usual), "%", 1.0),
    ]


def restart(bench: Bench) -> list[Row]:
    """From the start of the command to the end of the first step, resuming from a checkpoint; files are cached."""
    config = bench.config("restart", "log.every_steps=1", "train.steps=1000")
    until_row, to_begin, work = [], [], []
    for attempt in range(bench.args.rounds + 1):
        history = Path(config.output) / "history.jsonl"
        began = time.time()
        process = bench.pretrain(config)
        assert process.stdout is not None
        if any(line.startswith("step ") for line in process.stdout) and attempt:
            until_row.append(time.time() - began)
            work.append(processor_seconds(process.pid))
            resumed = [row["time"] for row in read_rows(history) if row["event"] == "resume"]
            to_begin.append(resumed[-1] - began)
        process.terminate()
        process.stdout.read()
        assert process.wait() == 75, f"see {config.output}"
    return [
        Row("start of the command to the end of the first step after a resume", statistics.median(until_row), "s", 8.0),
        Row("of it, until the checkpoint was found and verified", statistics.median(to_begin), "s"),
        Row("processor time of it, which is what it takes on a quiet core", statistics.median(work), "s"),
    ]


def loop(bench: Bench) -> list[Row]:
    """Our step, guard and agreement, by way of DeepSpeed, against forward, loss, backward, LARS and EMA in a bare loop.

    Both work on the same images, in turn; the ratio is the median over pairs of steps, whose order changes. On a CPU it
    is of processor time, which others' work on the machine does not enter.
    """
    from fra_dist.losses.total import fra_loss
    from fra_dist.models.fra import FRA
    from fra_dist.train.optim.ema import update_target
    from fra_dist.train.optim.parameter_groups import build_optimizer
    from fra_dist.train.signals import StopFlag

    config = bench.config("loop")
    with a_run(config) as run, StopFlag() as stop:
        views = next(iter(run.loader)).views
        model = FRA(config.model).to(run.ctx.device).train()
        optimizer = build_optimizer(model, config.optim)
        clock = time.process_time if run.ctx.device.type == "cpu" else time.perf_counter

        def bare(number: int) -> None:
            one, two = (view.contiguous(memory_format=torch.channels_last) for view in views)
            loss = fra_loss(model(one, two), config.loss)["total"]
            loss.backward()
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            update_target(model, 0.996)
            loss.item()

        def ours(number: int) -> None:
            terms = run.step.run(number, views)
            run.guard.note(number, terms)
            run.agree(stop)
            terms["total"].item()

        def seconds(step: Callable[[int], None], number: int) -> float:
            began = clock()
            step(number)
            return clock() - began

        pairs = []
        for number in range(2 + bench.args.steps * bench.args.rounds):
            order = (bare, ours) if number % 2 else (ours, bare)
            took = {step: seconds(step, number) for step in order}
            pairs.append((took[bare], took[ours]))
    bare_time = statistics.median(pair[0] for pair in pairs[2:])
    ratio = statistics.median(pair[1] / pair[0] for pair in pairs[2:])
    return [
        Row("a step of a bare loop", bare_time, "s"),
        Row(f"our loop with {config.train.backend} takes longer by", 100 * (ratio - 1), "%", 3.0),
    ]


def processor_seconds(pid: int) -> float:
    """User and system time of a process so far, of all its threads."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def memory(bench: Bench) -> list[Row]:
    """What a run of 2,000 steps holds at its end and held after 100: a tiny backbone, with checkpoints and log rows."""
    words = ["model.backbone=tiny", "data.image_size=32", "train.steps=2000", "log.every_steps=50"]
    config = bench.config("memory", *words, "checkpoint.every_steps=250", "model.hidden=64", "model.width=32")
    process = bench.pretrain(config)
    said = process.communicate()[0]
    if process.returncode:
        sys.exit(f"the run of 2,000 steps ended with status {process.returncode}:\n{said}")
    held = {row["step"]: row["memory_mib"] for row in read_rows(Path(config.output) / "metrics.jsonl")}
    return [
        Row("resident memory after 100 steps", held[100], "MiB"),
        Row("after 2,000 steps, as a multiple of that", held[2000] / held[100], "x", 1.02),
    ]


MEASUREMENTS: dict[str, Callable[[Bench], list[Row]]] = {
    "checkpoint_stall": checkpoint_stall,
    "restart": restart,
    "loop": loop,
    "memory": memory,
}


@contextmanager
def a_run(config: Config) -> Iterator["Run"]:  # type: ignore[name-defined]  # noqa: F821
    """A prepared run in this process, closed afterwards."""
    from fra_dist.train.prepare import close, prepare

    run = prepare(config)
    try:
        yield run
    finally:
        close(run)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="settings of the run")
    parser.add_argument("--only", nargs="+", choices=list(MEASUREMENTS), default=list(MEASUREMENTS))
    parser.add_argument("--backbone", default="resnet18")
    parser.add_argument("--size", type=int, default=112)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--steps", type=int, default=5, help="timed in a round")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1, help="of the input pipeline")
    parser.add_argument("--torch-threads", type=int, default=1)
    parser.add_argument("--out", type=Path, help="folder for rows of JSON")
    args = parser.parse_args()
    torch.set_num_threads(args.torch_threads)
    made = versions(torch.device("cuda", 0) if torch.cuda.is_available() else torch.device("cpu"))
    print(f"{made['device']}; {args.backbone}, {args.size} px, batch {args.batch}, fra-dist {made['commit']}")
    with tempfile.TemporaryDirectory() as scratch:
        make_shards(f"synthetic:96@{args.size}", Path(scratch) / "shards", ShardOptions(shard_samples=32, workers=1))
        for name in args.only:
            rows = MEASUREMENTS[name](Bench(Path(scratch), args))
            print(f"\n{name.replace('_', ' ')}", *rows, sep="\n", flush=True)
            if args.out is not None:
                record(args, name, rows, made)


def record(args: argparse.Namespace, name: str, rows: list[Row], made: dict[str, object]) -> None:
    """Add a line to engine.jsonl."""
    settings = {k: getattr(args, k) for k in ("backbone", "size", "batch", "threads", "torch_threads", "overrides")}
    figures = {row.what: {"value": row.value, "unit": row.unit, "target": row.target} for row in rows}
    args.out.mkdir(parents=True, exist_ok=True)
    with open(args.out / "engine.jsonl", "a", encoding="utf-8") as file:
        file.write(json.dumps({"what": name, **settings, "figures": figures, "versions": made}) + "\n")


if __name__ == "__main__":
    main()
