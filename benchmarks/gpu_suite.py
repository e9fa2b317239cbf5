"""Everything that is to be known of the speed on a GPU, in one command and under ten minutes.

    python benchmarks/gpu_suite.py --out DIR
    python benchmarks/gpu_suite.py --out DIR --published PATH --published-step adapter.py:make_step
    python benchmarks/gpu_suite.py --device cpu --quick        # tiny sizes, to see that it works

Ceilings of the device, each kernel's benchmark, the whole training step in several ways, collectives, the
loader. Each part runs in a process of its own, so that none can spoil another; a part for which the time left does not
suffice is named and left out. Rows go to DIR/gpu_suite.jsonl with device and versions. The published implementation
is run as a black box through an adapter, see `whole_step.py`.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from suite_parts import PARTS, Job, Row
from suite_targets import report

from fra_dist.json_lines import read_rows
from fra_dist.train.run_dir.folder import versions

_GRACE = 15
"""Seconds between a part's deadline, which it heeds where it can, and its end."""


def main(words: list[str] | None = None) -> int:
    args = arguments(words)
    if args.device == "cuda" and not torch.cuda.is_available():
        print("gpu_suite: no CUDA device is visible; for a trial without one: --device cpu --quick", file=sys.stderr)
        return 2
    if args.device == "cpu" and not args.quick:
        print("gpu_suite: on a CPU this runs for hours: add --quick, or use step_cpu.py", file=sys.stderr)
        return 2
    if args.part:
        return run_part(args)
    with tempfile.TemporaryDirectory() as scratch:
        return run_all(args, args.out or Path(scratch))


def arguments(words: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, help="folder; appends to gpu_suite.jsonl in it")
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda")
    parser.add_argument("--quick", action="store_true", help="tiny sizes")
    parser.add_argument("--minutes", type=float, default=9.5, help="for everything")
    parser.add_argument("--batches", type=int, nargs="+", help="images of a step (256 64)")
    parser.add_argument("--only", nargs="+", metavar="PART", help=f"of: {'; '.join(PARTS)}")
    parser.add_argument("--published", type=Path, metavar="PATH", help="a checkout of the published code")
    parser.add_argument("--published-step", default="", metavar="FILE.py:FUNCTION", help="makes its step")
    parser.add_argument("--part", help=argparse.SUPPRESS)
    parser.add_argument("--deadline", type=float, help=argparse.SUPPRESS)
    args = parser.parse_args(words)
    unknown = [name for name in args.only or [] if name not in PARTS]
    if unknown:
        parser.error(f"--only: there is no part {unknown[0]!r}; parts are {'; '.join(PARTS)}")
    if (args.published is None) != (not args.published_step):
        parser.error("--published and --published-step go together")
    args.batches = args.batches or ([4, 2] if args.quick else [256, 64])
    return args


def job(args: argparse.Namespace, deadline: float) -> Job:
    device = torch.device("cuda", 0) if args.device == "cuda" else torch.device("cpu")
    return Job(device, args.quick, tuple(args.batches), deadline, args.published, args.published_step)


def run_all(args: argparse.Namespace, out: Path) -> int:
    """Part after part, each with the time that is left; then the table of targets."""
    out.mkdir(parents=True, exist_ok=True)
    end, path = time.time() + 60 * args.minutes, out / "gpu_suite.jsonl"
    start = len(read_rows(path)) if path.exists() else 0
    notes = {}
    for name in args.only or PARTS:
        part, left = PARTS[name], end - time.time() - _GRACE
        reason = part.missing(job(args, end))
        if not reason and left < part.needs:
            reason = f"{max(left, 0):.0f} s left, and it needs {part.needs:.0f}"
        if not reason:
            print(f"\n{name}", flush=True)
            reason = in_a_process(args, out, name, time.time() + left)
        if reason:
            notes[name] = reason
    rows = read_rows(path)[start:] if path.exists() else []
    print()
    report(rows)
    for name, reason in notes.items():
        print(f"left out: {name}: {reason}")
    print(f"{len(rows)} rows, {time.time() - end + 60 * args.minutes:.0f} s" + (f", in {path}" if args.out else ""))
    return 0 if rows else 1


def in_a_process(args: argparse.Namespace, out: Path, name: str, deadline: float) -> str:
    """Run one part. Returns why it did not come to its end, or nothing."""
    words = [sys.executable, __file__, "--part", name, "--deadline", str(deadline), "--out", str(out)]
    words += ["--device", args.device, *(["--quick"] if args.quick else []), "--batches", *map(str, args.batches)]
    if args.published:
        words += ["--published", str(args.published), "--published-step", args.published_step]
    process = subprocess.Popen(words, start_new_session=True)
    try:
        status = process.wait(deadline + _GRACE - time.time())
    except subprocess.TimeoutExpired:
        return "stopped, for its time was over; its rows so far are kept"
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    return f"it failed, see above (status {status})" if status else ""


def run_part(args: argparse.Namespace) -> int:
    """In the part's own process: rows are on the disk as soon as they are known."""
    asked = job(args, args.deadline or time.time() + 60 * args.minutes)
    common: dict[str, Any] = {"part": args.part, "quick": args.quick, "date": time.strftime("%Y-%m-%d")}
    common["versions"] = versions(asked.device)
    common["device"] = common["versions"].pop("device")
    if args.part == "ceilings":
        print(common["device"], *(f"{k} {v}" for k, v in common["versions"].items() if k in ("torch", "commit")))
    with (args.out / "gpu_suite.jsonl").open("a") as file:
        for row in PARTS[args.part].run(asked):
            file.write(json.dumps(common | _plain(row)) + "\n")
            file.flush()
    return 0


def _plain(row: Row) -> Row:
    """NaN, which JSON lacks, as null."""
    return {k: None if isinstance(v, float) and v != v else v for k, v in row.items()}


if __name__ == "__main__":
    sys.exit(main())
