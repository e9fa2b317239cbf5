"""What it costs to resume a run of a million rows, beside the same run with a few.

    python benchmarks/long_run.py [--rows 1000000] [--rounds 3]

A tiny run makes four steps. The rows of its metrics and of its log of samples are repeated until each file has `--rows`
of them, and 1,000 of a step behind the newest checkpoint; then it is resumed for two steps, with the short files and
with the long ones in turn. Printed are the medians of CPU seconds and of the largest resident memory; status 1 when the
long files cost more than 2 s or 50 MB.
"""

import argparse
import json
import os
import shutil
import statistics
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
SETTINGS = [
    "data.image_size=32",
    "data.threads=1",
    "data.pipeline=torch",
    "train.global_batch=8",
    "train.device=cpu",
    "train.backend=torch",
]
SETTINGS += ["model.backbone=tiny", "model.regions=4", "model.width=16", "model.hidden=32", "optim.warmup_steps=1"]
SETTINGS += ["model.decoder.layers=1", "model.decoder.heads=2", "model.decoder.feedforward=32"]
SETTINGS += ["log.every_steps=1", "log.samples=true", "log.heatmaps_every=0", "checkpoint.every_steps=2"]
STEPS, UNSAVED, SECONDS, MEGABYTES = 4, 1000, 2.0, 50.0


def call(*words: object) -> tuple[float, float]:
    """Run a command of the package; give its CPU seconds and its largest resident memory in MB."""
    command = [sys.executable, "-m", "fra_dist.cli.main", *map(str, words)]
    silent = [(os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0), (os.POSIX_SPAWN_DUP2, 1, 2)]
    child = os.posix_spawn(sys.executable, command, os.environ, file_actions=silent)
    _, status, used = os.wait4(child, 0)
    if status:
        sys.exit(f"{' '.join(command)} ended with {os.waitstatus_to_exitcode(status)}")
    return used.ru_utime + used.ru_stime, used.ru_maxrss / 1e3


def lengthen(path: Path, count: int) -> None:
    """Repeat the rows of a file, in the order of their steps, and add rows of a step that is not saved."""
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    with path.open("w") as stream:
        for row in rows:
            stream.write((json.dumps(row) + "\n") * (count // len(rows)))
        stream.write((json.dumps({**rows[-1], "step": STEPS + 1}) + "\n") * UNSAVED)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    os.environ |= {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    measured: dict[str, list[tuple[float, float]]] = {"short": [], "long": []}
    with tempfile.TemporaryDirectory(prefix="long-") as name:
        folder = Path(name)
        call("shards", "make", "synthetic:16@48", "--out", folder / "shards", "--no-report", "--workers", "1")
        settings = [*SETTINGS, f"data.shards={folder / 'shards'}"]
        (folder / "run.yaml").write_text("name: long\n")
        call("pretrain", folder / "run.yaml", *settings, f"output={folder / 'short'}", f"train.steps={STEPS}")
        shutil.copytree(folder / "short", folder / "long")
        for path in (folder / "long/metrics.jsonl", folder / "long/samples/rank-00000.jsonl"):
            lengthen(path, args.rows)
            print(f"{path.name}: {args.rows + UNSAVED} rows, {path.stat().st_size / 1e6:.0f} MB")
        for _ in range(args.rounds):
            for kind, found in measured.items():
                shutil.copytree(folder / kind, folder / "run")
                words = [*settings, f"output={folder / 'run'}", f"train.steps={STEPS + 2}", "--force"]
                found.append(call("pretrain", folder / "run.yaml", *words))
                shutil.rmtree(folder / "run")
    medians = {
        kind: [statistics.median(column) for column in zip(*found, strict=True)] for kind, found in measured.items()
    }
    for kind, (seconds, megabytes) in medians.items():
        print(f"{kind:<6} {seconds:6.2f} s of CPU {megabytes:8.0f} MB")
    seconds, megabytes = (long - short for long, short in zip(medians["long"], medians["short"], strict=True))
    print(f"more   {seconds:6.2f} s of CPU {megabytes:8.0f} MB; at most {SECONDS} s and {MEGABYTES:.0f} MB")
    sys.exit(seconds > SECONDS or megabytes > MEGABYTES)


if __name__ == "__main__":
    main()
