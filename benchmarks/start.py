"""Processor time from the start of `fra-dist pretrain` to its first step, beside another checkout of this project.

    git worktree add --detach build/old COMMIT
    python benchmarks/start.py --against build/old --out benchmarks/results

Each round starts the command once in each checkout, on one core and with one thread, and ends it after a step. What
counts is the time of the processor, user and system, of all threads and of processes that ended: to the end of the
first step, and to its line on the screen, behind the loggers. Caches are warm, that of bytecode
too: the first round does not count.
"""

import argparse
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import Any, TextIO

ROOT = Path(__file__).resolve().parents[1]
SETTINGS = ["data.image_size=32", "train.steps=2", "optim.warmup_steps=0", "log.every_steps=1"]
PARTS = ("start", "step", "line")
"""Until the run says that it starts, until its first step has ended, until the line of this step is on the screen."""


def spent() -> float:
    """Processor seconds of this process and of those that it started and that ended."""
    parts = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(part.ru_utime + part.ru_stime for part in parts)


class Watched:
    """A standard output that looks for two lines of a run and says what was spent before each."""

    def __init__(self, stream: TextIO, target: Path) -> None:
        self.stream, self.target = stream, target
        self.found: dict[str, float] = {}

    def write(self, text: str) -> int:
        if ": starting, " in text and "start" not in self.found:
            self.found["start"] = spent()
            self._watch_step()
        if text.startswith("step 1/"):
            self.found["line"] = spent()
            self.target.write_text(json.dumps(self.found))
            os._exit(0)
        return self.stream.write(text)

    def _watch_step(self) -> None:
        step = sys.modules["fra_dist.train.step"].Step
        run = step.run

        def watched(*given: Any) -> Any:
            terms = run(*given)
            self.found.setdefault("step", spent())
            return terms

        step.run = watched

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)


def started(words: Sequence[str], target: Path) -> None:
    """Run the command of the package on the path in this process, to the line of the first step."""
    sys.stdout = Watched(sys.stdout, target)  # type: ignore[assignment]
    from fra_dist.cli.main import main as command

    sys.exit(command(words))


def measure(checkout: Path, config: str, shards: Path, settings: Sequence[str], core: int) -> dict[str, float]:
    """Processor seconds of a start of one checkout, by part. Ends this program where the command ends early."""
    with tempfile.TemporaryDirectory(dir=shards.parent) as scratch:
        target = Path(scratch) / "spent.json"
        words = ["pretrain", config, f"data.shards={shards}", f"output={scratch}/run", *SETTINGS, *settings]
        env = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(checkout)}
        env["PYTHONPYCACHEPREFIX"] = str(shards.parent / "bytecode")  # whether the packages' own folders can be written
        env.pop("PYTHONDONTWRITEBYTECODE", None)  # or not
        done = subprocess.run(
            [sys.executable, "-P", __file__, "--started", str(target), "--", *words],
            **{"env": env, "cwd": scratch, "capture_output": True, "text": True},
            preexec_fn=lambda: os.sched_setaffinity(0, {core}),
        )
        if not target.exists():
            raise SystemExit(f"start: {checkout}: status {done.returncode}\n{done.stdout}{done.stderr}")
        found: dict[str, float] = json.loads(target.read_text())
        return found


def summary(rounds: Sequence[dict[str, dict[str, float]]]) -> dict[str, Any]:
    """Median seconds of each checkout by part, and the median over the rounds of old over new at the first step."""
    row: dict[str, Any] = {"rounds": len(rounds)}
    for name in rounds[0]:
        row[name] = {part: round(statistics.median(one[name][part] for one in rounds), 2) for part in PARTS}
    if "old" in rounds[0]:
        ratios = [one["old"]["step"] / one["new"]["step"] for one in rounds]
        row["old_over_new"] = round(statistics.median(ratios), 3)
    return row


def commit(checkout: Path) -> str:
    found = subprocess.run(["git", "-C", str(checkout), "describe", "--always", "--dirty"], capture_output=True)
    return found.stdout.decode().strip()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--against", type=Path, metavar="CHECKOUT", help="the other checkout (none)")
    parser.add_argument("--rounds", type=int, default=5, help="starts of each (%(default)s)")
    parser.add_argument("--config", default="photos_cpu", help="a shipped configuration (%(default)s)")
    parser.add_argument("--core", type=int, default=0, help="the one that all starts have (%(default)s)")
    parser.add_argument("--set", nargs="*", default=[], metavar="key=value", help="changes of the configuration")
    parser.add_argument("--out", type=Path, help="folder; appends to start.jsonl in it")
    parser.add_argument("--started", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("words", nargs="*", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.started is not None:
        started(args.words, args.started)
    checkouts = {"old": args.against.resolve()} if args.against else {}
    checkouts["new"] = ROOT
    with tempfile.TemporaryDirectory() as scratch:
        shards = Path(scratch) / "shards"
        make = ["-m", "fra_dist.cli.main", "shards", "make", "synthetic:256@48:face", "--workers", "1", "--no-report"]
        env = {**os.environ, "PYTHONPATH": str(ROOT)}
        subprocess.run([sys.executable, *make, "--out", str(shards)], check=True, env=env, stdout=subprocess.DEVNULL)
        rounds = []
        for _ in range(args.rounds + 1):
            rounds.append(
                {name: measure(one, args.config, shards, args.set, args.core) for name, one in checkouts.items()}
            )
            print(json.dumps(rounds[-1]), flush=True)
    row = summary(rounds[1:]) | {"commits": {name: commit(one) for name, one in checkouts.items()}}
    print(json.dumps(row, indent=1))
    if args.out:
        row |= {"config": args.config, "changes": args.set, "torch": metadata.version("torch")}
        row |= {"machine": f"{platform.machine()}, {os.cpu_count()} cores", "load": os.getloadavg()[0]}
        args.out.mkdir(parents=True, exist_ok=True)
        with (args.out / "start.jsonl").open("a") as file:
            file.write(json.dumps(row | {"date": time.strftime("%Y-%m-%d")}) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
