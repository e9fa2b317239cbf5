"""The training step on a CPU: ours against FRA written plainly in NCHW and, given a checkout, the published code.

    python benchmarks/step_cpu.py --out benchmarks/results
    python benchmarks/step_cpu.py --published PATH --published-step adapter.py:make_step    # see whole_step.py

ResNet-18 at 112 px with 32 images and ResNet-50 at 224 px with 8, published heads, fp32 and, where the CPU computes in
it, bf16, on one thread. First, without dropout, everybody's first losses must agree. Then steps are timed in turn, in
as many rounds as ten minutes allow (`--minutes`; with `--quick`, tiny sizes, two). Ratios are medians over the rounds
of the time of a way over ours in the same round, so that other load meets both.
"""

import argparse
import json
import os
import statistics
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from whole_step import OurStep, Setting, Way, plainly, published

from fra_dist.train.convolution_choice import apply
from fra_dist.train.cpu_measurements import machine
from fra_dist.train.precision import cpu_computes_bf16
from fra_dist.train.run_dir.folder import versions

Row = dict[str, Any]
CPU = torch.device("cpu")
SETTINGS = {"resnet18": Setting("resnet18", 112, 32, CPU), "resnet50": Setting("resnet50", 224, 8, CPU)}
QUICK = {"resnet18": Setting("resnet18", 64, 2, CPU, small=True)}
WORK = {"resnet18": 1.0, "resnet50": 2.4, "float32": 2.0, "bfloat16": 1.0}
"""How the minutes are shared out among the settings: the product of the two."""
TOLERANCE = {"float32": 1e-4, "bfloat16": 3e-2}


def main(words: list[str] | None = None) -> int:
    args = arguments(words)
    torch.set_num_threads(args.threads)
    made = versions(CPU)
    print(f"{machine()}, load {os.getloadavg()[0]:.1f}; bf16: {_bf16_words()}")
    named = (QUICK if args.quick else SETTINGS).items()
    settings = [replace(setting, dtype=dtype) for name, setting in named if name in args.only for dtype in args.dtypes]
    end = time.monotonic() + 60 * args.minutes
    for number, setting in enumerate(settings):
        share = _work(setting) / sum(map(_work, settings[number:]))
        now = time.monotonic()
        rows = compare(setting, args, now + share * (end - now))
        if args.out:
            write(args.out, rows, made)
    return 0


def arguments(words: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, help="folder; appends to step_cpu.jsonl in it")
    parser.add_argument("--rounds", type=int, help="the most steps of each (7)")
    parser.add_argument("--minutes", type=float, help="for everything (10, with --quick 2); two rounds at the least")
    parser.add_argument("--only", nargs="+", choices=list(SETTINGS), default=list(SETTINGS), help="backbones")
    parser.add_argument("--dtypes", nargs="+", choices=list(TOLERANCE), help="all that the CPU computes in")
    parser.add_argument("--threads", type=int, default=1, help="of torch (1)")
    parser.add_argument("--quick", action="store_true", help="tiny sizes")
    parser.add_argument("--published", type=Path, metavar="PATH", help="a checkout of the published code")
    parser.add_argument("--published-step", default="", metavar="FILE.py:FUNCTION", help="makes its step")
    parser.add_argument(
        "--convolutions", action="store_true", help="also ours with PyTorch's convolutions, and by the former rule"
    )
    parser.add_argument("--profile", action="store_true", help="also print which operations take ours its time")
    args = parser.parse_args(words)
    if (args.published is None) != (not args.published_step):
        parser.error("--published and --published-step go together")
    args.minutes = args.minutes or (2 if args.quick else 10)
    args.rounds = args.rounds or (2 if args.quick else 7)
    args.dtypes = args.dtypes or ["float32", *(["bfloat16"] if cpu_computes_bf16() else [])]
    return args


def _bf16_words() -> str:
    return "yes" if cpu_computes_bf16() else "not computed by this CPU"


def ways(setting: Setting, args: argparse.Namespace) -> dict[str, Way]:
    found = {"plain NCHW": plainly(setting), "plain channels-last": plainly(setting, channels_last=True)}
    if args.published:
        found["published"] = published(setting, args.published, args.published_step)
    if args.convolutions:
        for name, chosen in (("ours, PyTorch's", {}), ("ours, former rule", None)):
            found[name] = step = OurStep(setting)
            apply(step.model, chosen)
    return {**found, "ours": OurStep(setting)}


def _work(setting: Setting) -> float:
    return WORK[setting.backbone] * WORK[setting.dtype]


def compare(setting: Setting, args: argparse.Namespace, end: float) -> list[Row]:
    """Check and time everybody. No round is begun that would end after `end` (of `time.monotonic`), after two."""
    print(f"\n{setting.backbone}, {setting.size} px, {setting.batch} images, {setting.dtype}")
    check(setting, args)
    entrants = ways(setting, args)
    for run in entrants.values():
        run()
    seconds: dict[str, list[float]] = {name: [] for name in entrants}
    processor: dict[str, list[float]] = {name: [] for name in entrants}
    for number in range(args.rounds):
        began = time.monotonic()
        if number >= 2 and began + sum(times[-1] for times in seconds.values()) > end:
            break
        for name, run in entrants.items():
            wall, own = time.perf_counter(), time.process_time()
            run()
            seconds[name].append(time.perf_counter() - wall)
            processor[name].append(time.process_time() - own)
    rows = [_row(name, setting, seconds, processor) for name in entrants]
    print(f"{len(seconds['ours'])} rounds, load {os.getloadavg()[0]:.1f}; {_told(entrants['ours'])}")
    header = f"{'ms an image':>12} {'of processors':>14} {'× ours':>7} {'by processors':>14}"
    print(f"{'':<22}{header}")
    for row in rows:
        figures = f"{row['ms']:12.1f} {row['cpu_ms']:14.1f} {row['over_ours']:7.2f} {row['cpu_over_ours']:14.2f}"
        print(f"{row['way']:<22}{figures}", flush=True)
    if args.profile:
        print(busiest(entrants["ours"]))
    return rows


def _told(ours: Way) -> str:
    assert isinstance(ours, OurStep)
    return ours.told or "convolutions are PyTorch's"


def check(setting: Setting, args: argparse.Namespace) -> None:
    """Everybody's first loss, without dropout, must be the plain one. Raises SystemExit otherwise."""
    losses = {name: float(run()) for name, run in ways(replace(setting, dropout=0.0), args).items()}
    print("first losses: " + ", ".join(f"{name} {loss:.5f}" for name, loss in losses.items()))
    wanted, limit = losses["plain NCHW"], TOLERANCE[setting.dtype]
    wrong = [name for name, loss in losses.items() if not abs(loss - wanted) <= limit * abs(wanted)]
    if wrong:
        raise SystemExit(f"step_cpu: the loss of {' and '.join(wrong)} is not the plain one: nothing is timed")


def _row(name: str, setting: Setting, seconds: dict[str, list[float]], processor: dict[str, list[float]]) -> Row:
    row: Row = {"backbone": setting.backbone, "size": setting.size, "batch": setting.batch, "dtype": setting.dtype}
    row |= {"way": name, "rounds": len(seconds[name]), "load": os.getloadavg()[0], "cpu": machine()}
    for prefix, times in (("", seconds), ("cpu_", processor)):
        row[f"{prefix}ms"] = 1e3 * statistics.median(times[name]) / setting.batch
        pairs = zip(times[name], times["ours"], strict=True)
        row[f"{prefix}over_ours"] = statistics.median(own / ours for own, ours in pairs)
    return row


def busiest(run: Way, rows: int = 14) -> str:
    """A table of the operations that take most of a step's time."""
    from torch.profiler import ProfilerActivity, profile

    with profile(activities=[ProfilerActivity.CPU], acc_events=True) as profiler:
        run()
    return profiler.key_averages().table(sort_by="self_cpu_time_total", row_limit=rows, max_name_column_width=44)


def write(out: Path, rows: list[Row], made: dict[str, Any]) -> None:
    out.mkdir(parents=True, exist_ok=True)
    common = {"date": time.strftime("%Y-%m-%d"), "threads": torch.get_num_threads(), "versions": made}
    with (out / "step_cpu.jsonl").open("a") as file:
        file.writelines(json.dumps(row | common) + "\n" for row in rows)


if __name__ == "__main__":
    sys.exit(main())
