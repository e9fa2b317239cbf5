"""The pre-training runs of the demo, each in a process of its own."""

import os
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from fra_dist.config import Config, dump_config
from fra_dist.errors import FraError
from fra_dist.files import exists
from fra_dist.json_lines import read_rows


@dataclass
class _Job:
    name: str
    steps: int
    folder: Path
    log: Path
    process: subprocess.Popen[bytes] | None = None

    def done(self) -> int:
        """Steps that its metrics tell of."""
        path = self.folder / "metrics.jsonl"
        rows = read_rows(path) if exists(path) else []
        return int(rows[-1]["step"]) if rows else 0


def train_all(configs: Mapping[str, Config], together: int) -> None:
    """Run `fra-dist pretrain` for each configuration, `together` at a time, and say how far they are.

    Raises FraError with the last lines of a run that fails. Ctrl-C reaches the runs too, which save and can resume.
    """
    waiting = [_job(name, config) for name, config in configs.items()]
    jobs, running = list(waiting), list[_Job]()
    printed_at = 0.0
    try:
        while waiting or running:
            while waiting and len(running) < together:
                running.append(waiting.pop(0))
                _start(running[-1], together)
            for job in [j for j in running if j.process is not None and j.process.poll() is not None]:
                running.remove(job)
                _check(job)
            if time.monotonic() - printed_at > 5 or not running:
                printed_at = time.monotonic()
                print("  " + "   ".join(f"{j.name} {j.done()}/{j.steps}" for j in jobs), flush=True)
            time.sleep(0.2)
    finally:
        for job in running:
            if job.process is not None and job.process.poll() is None:
                job.process.terminate()
                job.process.wait()


def _job(name: str, config: Config) -> _Job:
    folder = Path(config.output)
    folder.mkdir(parents=True, exist_ok=True)
    wanted = folder / "wanted.yaml"
    wanted.write_text(dump_config(config))
    return _Job(name, config.train.steps or 0, folder, folder / "log.txt")


def _start(job: _Job, together: int) -> None:
    threads = max(1, (os.cpu_count() or 1) // together)
    command = [sys.executable, "-m", "fra_dist.cli.main", "pretrain", str(job.folder / "wanted.yaml")]
    with job.log.open("ab") as log:
        env = {**os.environ, "OMP_NUM_THREADS": str(threads)}
        job.process = subprocess.Popen(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL, env=env)


def _check(job: _Job) -> None:
    assert job.process is not None
    if job.process.returncode:
        tail = job.log.read_text(errors="replace").strip().splitlines()[-1:]
        raise FraError(
            f"the {job.name} run ended with status {job.process.returncode} ({''.join(tail)}); see {job.log}"
        )
