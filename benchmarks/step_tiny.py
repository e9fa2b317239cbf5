"""The whole step of a small network on one CPU thread, against that of another checkout of this project.

    git worktree add --detach build/old COMMIT
    python benchmarks/step_tiny.py --against build/old --out benchmarks/results

The configuration is that of the study (configs/study/tiny.yaml; `--set key=value` for others that both checkouts know).
Each checkout has a process of its own with the same weights and images, and they take steps in turn. The time is the
processor's, so that waiting for other programs does not count; the ratio is the median over the rounds of old over new.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]


class Walker:
    """A process that does one step of a checkout whenever it is asked."""

    def __init__(self, checkout: Path, settings: list[str]) -> None:
        env = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": f"{checkout}{os.pathsep}{checkout / 'benchmarks'}"}
        # -P: modules of the benchmarks come from the checkout, not from beside this file
        command = [sys.executable, "-P", __file__, "--walk", str(checkout), "--set", *settings]
        self.process = subprocess.Popen(command, env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        known = subprocess.run(["git", "-C", str(checkout), "describe", "--always", "--dirty"], capture_output=True)
        self.commit = known.stdout.decode().strip()
        self._answer()

    def step(self) -> dict[str, Any]:
        """`seconds` of the processor, and the `loss`."""
        assert self.process.stdin is not None
        self.process.stdin.write("step\n")
        self.process.stdin.flush()
        return self._answer()

    def _answer(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit(f"step_tiny: {' '.join(self.process.args)} ended with status {self.process.wait()}")
        found: dict[str, Any] = json.loads(line)
        return found


def walk(checkout: Path, settings: list[str]) -> None:
    """Answer each line of the standard input with one step of the package on the path."""
    import torch
    from whole_step import OurStep, Setting

    from fra_dist.config import Config, load_config

    torch.set_num_threads(1)

    class Study(Setting):
        def config(self, **train: Any) -> Config:
            changes = ["train.backend=torch", "train.device=cpu", f"train.global_batch={self.batch}", *settings]
            return load_config(checkout / "configs/study/tiny.yaml", changes)

    step = OurStep(Study("tiny", 64, 64, torch.device("cpu")))
    step()
    print(json.dumps({"ready": True}), flush=True)
    for _ in sys.stdin:
        began = time.process_time()
        loss = float(step())
        print(json.dumps({"seconds": time.process_time() - began, "loss": loss}), flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--against", type=Path, metavar="CHECKOUT", help="the other checkout")
    parser.add_argument("--rounds", type=int, default=15, help="steps of each (%(default)s)")
    parser.add_argument("--set", nargs="*", default=[], metavar="key=value", help="changes of the configuration")
    parser.add_argument("--out", type=Path, help="folder; appends to step_tiny.jsonl in it")
    parser.add_argument("--walk", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.walk is not None:
        walk(args.walk, args.set)
        return 0
    if args.against is None or not (args.against / "fra_dist").is_dir():
        parser.error("--against needs a checkout of this project")
    walkers = {"old": Walker(args.against.resolve(), args.set), "new": Walker(ROOT, args.set)}
    rounds = [{name: one.step() for name, one in walkers.items()} for _ in range(args.rounds)]
    row = summary(rounds) | {"commits": {name: one.commit for name, one in walkers.items()}, "changes": args.set}
    print(json.dumps(row, indent=1))
    if args.out:
        args.out.mkdir(parents=True, exist_ok=True)
        with (args.out / "step_tiny.jsonl").open("a") as file:
            file.write(json.dumps(row | {"date": time.strftime("%Y-%m-%d"), "load": os.getloadavg()[0]}) + "\n")
    return 0


def summary(rounds: list[dict[str, dict[str, Any]]]) -> dict[str, Any]:
    """Median milliseconds of each, median ratio with its quartiles, and the last losses."""
    ratios = [one["old"]["seconds"] / one["new"]["seconds"] for one in rounds]
    row: dict[str, Any] = {"rounds": len(rounds), "old_over_new": round(statistics.median(ratios), 3)}
    row["quartiles"] = [round(q, 3) for q in statistics.quantiles(ratios, n=4)[::2]] if len(ratios) > 1 else ratios * 2
    for name in ("old", "new"):
        row[f"{name}_ms"] = round(1e3 * statistics.median(one[name]["seconds"] for one in rounds), 1)
        row[f"{name}_loss"] = round(rounds[-1][name]["loss"], 6)
    return row


if __name__ == "__main__":
    sys.exit(main())
