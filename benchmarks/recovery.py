"""Seconds from the start to the first step, and from a fault to the first new step, under each launcher.

    python benchmarks/recovery.py                                  # prints a table
    python benchmarks/recovery.py --only start torchrun --rounds 3 --out benchmarks/results

The trainer is the real one, as small as it goes (a tiny backbone, 8 photos a step, gloo), on two ranks, with a
checkpoint every 10 steps; so what is measured is start-up, notice and restart. Faults: `killed` a rank by SIGKILL,
`stopped` one by SIGSTOP with train.watchdog_seconds=5 (which is part of the time), `requeued` a SLURM job asked to
save and queue again. SLURM is a test cluster of two nodes on this machine, for which the script must run as root; its
wait before a requeued job may start is 5 s. `imports` is the part of a start that loads modules, in a process alone.
"""

import argparse
import json
import os
import platform
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from fra_dist.train.run_dir.folder import versions  # noqa: E402
from tests.cluster.ray_nodes import RayNodes  # noqa: E402
from tests.cluster.slurm_cluster import SlurmCluster, why_not  # noqa: E402
from tests.cluster.waiting import events, rows, until  # noqa: E402

FRA = [sys.executable, "-m", "fra_dist.cli.main"]
IMPORTS = "import fra_dist.train.prepare, fra_dist.report.picture_hook, fra_dist.train.engines.deepspeed_engine"
IMPORTS += ", fra_dist.data.decoding.dali_graph"
PATIENCE = 300.0


@dataclass
class Measured:
    way: str
    what: str
    seconds: float
    steps_lost: int | None = None


class Trial:
    """One run in a folder of its own."""

    def __init__(self, folder: Path, shards: Path) -> None:
        self.run = folder / "run"
        self.settings = [str(ROOT / "configs" / "debug_cpu.yaml"), f"output={self.run}", f"data.shards={shards}"]
        self.settings += ["train.steps=100000", "train.global_batch=8", "train.watchdog_seconds=5"]
        self.settings += ["log.heatmaps_every=0", "log.tensorboard=false", "data.threads=1"]
        self.settings += ["checkpoint.every_steps=10"]

    def step(self) -> int:
        return max((row["step"] for row in rows(self.run / "metrics.jsonl")), default=0)

    def first_step(self, since: float) -> float:
        until(lambda: self.step() >= 1, PATIENCE, "first step")
        return time.monotonic() - since

    def after(self, fault: Callable[[], object]) -> tuple[float, int]:
        """(seconds from `fault` to the first new step, steps lost); waits for a checkpoint and a few steps first."""
        until(lambda: self.step() % 10 == 6 and self.step() > 10, PATIENCE, "steps")
        resumed, since = len(events(self.run, "resume")), time.monotonic()
        fault()
        until(lambda: len(events(self.run, "resume")) > resumed, PATIENCE, "resume")
        begun = events(self.run, "resume")[-1]["step"]
        until(lambda: self.step() > begun, PATIENCE, "new step")
        seconds = time.monotonic() - since
        lost = [row.get("steps_lost", 0) for row in events(self.run, "launch restart")]
        return seconds, lost[-1] if lost else 0

    def rank(self, rank: int) -> int:
        """The process of a rank on this machine."""
        for entry in Path("/proc").iterdir():
            try:
                command, environment = (entry / "cmdline").read_bytes(), (entry / "environ").read_bytes()
            except OSError:
                continue
            ours = b"\0pretrain\0" in command and b"launch.task" not in command and b"torch.distributed" not in command
            variables = environment.split(b"\0")
            named = {f"RANK={rank}".encode(), f"SLURM_PROCID={rank}".encode()} & set(variables)
            if ours and str(self.run).encode() in command and named:
                return int(entry.name)
        raise RuntimeError(f"there is no process of rank {rank}")


@contextmanager
def started(command: list[str], env: dict[str, str] | None = None) -> Iterator[float]:
    """A process in the background, ended afterwards; when it was started."""
    since = time.monotonic()
    process = subprocess.Popen(command, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=ROOT)
    try:
        yield since
    finally:
        process.terminate()
        try:
            process.wait(60)
        except subprocess.TimeoutExpired:
            process.kill()


def start(folder: Path, shards: Path) -> Iterator[Measured]:
    since = time.monotonic()
    subprocess.run([sys.executable, "-c", IMPORTS], check=True, cwd=ROOT, stderr=subprocess.DEVNULL)
    yield Measured("one process", "imports", time.monotonic() - since)
    trial = Trial(folder, shards)
    with started([*FRA, "pretrain", *trial.settings]) as since:
        yield Measured("one process", "start", trial.first_step(since))
        holder = json.loads((trial.run / "attempt.json").read_text())["process"]
        words = Path(f"/proc/{holder}/stat").read_text().rpartition(")")[2].split()
        cpu = (int(words[11]) + int(words[12])) / os.sysconf("SC_CLK_TCK")
        yield Measured("one process", "start, CPU time", cpu)


def torchrun(folder: Path, shards: Path) -> Iterator[Measured]:
    trial = Trial(folder, shards)
    words = ["launch", "torchrun", "--ranks-per-node", "2", "--max-restarts", "9", "--config"]
    with started([*FRA, *words, *trial.settings]) as since:
        yield Measured("torchrun", "start", trial.first_step(since))
        for what, number in (("killed", signal.SIGKILL), ("stopped", signal.SIGSTOP)):
            yield Measured("torchrun", what, *trial.after(lambda n=number: os.kill(trial.rank(1), n)))


def slurm(folder: Path, shards: Path) -> Iterator[Measured]:
    reason = why_not()
    if reason:
        print(f"SLURM is left out: {reason}", file=sys.stderr)
        return
    (folder / "s").mkdir()
    with SlurmCluster(folder / "s", nodes=2) as cluster:
        cluster.settle()
        trial, since = Trial(folder, shards), time.monotonic()
        command = [*FRA, "launch", "slurm", "--nodes", "2", "--time", "60", "--config", *trial.settings]
        said = subprocess.run(command, env=cluster.environment, check=True, capture_output=True, text=True, cwd=ROOT)
        job = said.stdout.split()[1]
        yield Measured("slurm", "start", trial.first_step(since))
        for what, number in (("killed", signal.SIGKILL), ("stopped", signal.SIGSTOP)):
            yield Measured("slurm", what, *trial.after(lambda n=number: os.kill(trial.rank(1), n)))
        requeue = ("scancel", "--signal=USR2", job)
        yield Measured("slurm", "requeued", *trial.after(lambda: cluster.command(*requeue)))


def ray(folder: Path, shards: Path) -> Iterator[Measured]:
    with RayNodes(folder / "r", cpus=2) as nodes:
        trial = Trial(folder, shards)
        command = [*FRA, "launch", "ray", "--address", nodes.address, "--workers", "2", "--config", *trial.settings]
        with started(command, nodes.environment) as since:
            yield Measured("ray", "start", trial.first_step(since))
            for what, number in (("killed", signal.SIGKILL), ("stopped", signal.SIGSTOP)):
                yield Measured("ray", what, *trial.after(lambda n=number: os.kill(trial.rank(1), n)))


WAYS: dict[str, Callable[[Path, Path], Iterator[Measured]]] = {
    **{"start": start, "torchrun": torchrun, "slurm": slurm, "ray": ray}
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=WAYS, default=list(WAYS))
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--out", type=Path, help="folder for a row of JSON")
    args = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    found: list[Measured] = []
    with tempfile.TemporaryDirectory(prefix="rec-", ignore_cleanup_errors=True) as scratch:
        shards = Path(scratch) / "faces"
        subprocess.run([*FRA, "shards", "make", "synthetic:64@48", "--out", str(shards)], check=True, cwd=ROOT)
        for _ in range(args.rounds):
            for name in args.only:
                folder = Path(tempfile.mkdtemp(prefix=f"{name[:1]}-", dir=scratch))
                (folder / "r").mkdir()
                for one in WAYS[name](folder, shards):
                    found.append(one)
                    print(f"{one.way}, {one.what}: {one.seconds:.1f} s", file=sys.stderr, flush=True)
    report(found, args)


def report(found: list[Measured], args: argparse.Namespace) -> None:
    load = os.getloadavg()[1]
    print(f"{os.cpu_count()} cores, load {load:.1f}, median of {args.rounds}; seconds to the first (new) step\n")
    table: list[dict[str, Any]] = []
    for key in dict.fromkeys((one.way, one.what) for one in found):
        ones = [one for one in found if (one.way, one.what) == key]
        seconds = [round(one.seconds, 2) for one in ones]
        lost = max((one.steps_lost for one in ones if one.steps_lost is not None), default=None)
        table.append({"way": key[0], "what": key[1], "seconds": seconds, "steps_lost": lost})
        steps = "" if lost is None else f"{lost:4d} steps lost"
        print(f"{key[0]:<12} {key[1]:<16} {statistics.median(seconds):6.1f} s  {steps}")
    if args.out is not None:
        import torch

        args.out.mkdir(parents=True, exist_ok=True)
        machine = f"{platform.machine()}, {os.cpu_count()} cores"
        row = {"machine": machine, "load": round(load, 1), "rows": table, "versions": versions(torch.device("cpu"))}
        with open(args.out / "recovery.jsonl", "a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")


if __name__ == "__main__":
    main()
