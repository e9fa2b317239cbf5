"""Faults at the N-th call below the run folder, each in a fork of one process that has everything imported.

    python tests/faults_io/sweep.py WORK SHARDS PHASE EVERY [FIRST]

WORK: an empty folder. PHASE: `run` (a small run from its start) or `resume` (resuming after step 4). EVERY: every how
many calls one is struck; 1 for the complete sweep, which takes hours. FIRST: the first of them; -1 is the last call.
Prints a line a trial that ended badly and a last line of counts; status 1 with any. Environment: SWEEP_RANKS=2 for two
ranks, of which SWEEP_STRUCK=0 or 1 meets the faults; SWEEP_FAULTS and SWEEP_KINDS choose among `FAULTS`; SWEEP_SECONDS
ends it early; SWEEP_LIMIT (30): LIMIT.
The fault layer is compiled into WORK and preloaded.

A trial is the faulty attempt and, unless that one leaves exactly the files of an undisturbed run, the same command
without a fault. It is good when nothing printed a traceback or hung, and the run ends in the same bits and rows as an
undisturbed one. A hang must end by the watchdog, whose limits are shortened for it.
"""

import contextlib
import ctypes
import errno
import hashlib
import os
import shutil
import signal
import socket
import sys
import time
from collections import Counter
from pathlib import Path

from fra_dist import files
from fra_dist.api import pretraining
from fra_dist.cli.main import main
from fra_dist.data.decoding import dali_pipeline, torch_pipeline  # noqa: F401
from fra_dist.json_lines import read_rows
from fra_dist.launch.chaos.erring_disk import build_layer
from fra_dist.report import curves, picture_hook  # noqa: F401
from fra_dist.train import prepare, trainer
from fra_dist.train.hooks import collapse_alarms, saving, stragglers  # noqa: F401
from fra_dist.train.liveness import watchdog
from fra_dist.train.run_dir.folder import repeatable

FAULTS = {
    "eio": (errno.EIO, 0, "orwsntdfuc"),
    "estale": (errno.ESTALE, 0, "orwsntdfuc"),
    "enospc": (errno.ENOSPC, 0, "owsn"),
    "short": (0, 1, "rw"),
    "kill": (0, 2, "owsn"),
    "hang": (0, 3, "orwsntdfuc"),
}
PATIENCE, LIMIT = 120, int(os.environ.get("SWEEP_LIMIT", "30"))
"""PATIENCE: seconds after which an attempt hangs. LIMIT: seconds that the watchdog and a start may take."""
RANKS, STRUCK = int(os.environ.get("SWEEP_RANKS", "1")), int(os.environ.get("SWEEP_STRUCK", "0"))
STEPS, HALF = 6, 4
CONFIG = """
data: {{shards: {shards}, image_size: 32, threads: 1}}
train: {{global_batch: 8, steps: {steps}, device: cpu, backend: torch}}
log: {{heatmaps_every: 0, every_steps: 1, samples: true, tensorboard: false, pictures: false}}
checkpoint: {{every_steps: 2}}
model: {{backbone: tiny, regions: 4, width: 16, hidden: 32, decoder: {{layers: 1, heads: 2, feedforward: 16}}}}
optim: {{warmup_steps: 1}}
"""


class Attempt:
    """One command in a fork for each rank: a status (a negative signal when killed, None when it hung) and what was
    printed. As under a launcher, ranks that are left when another has failed are ended."""

    def __init__(self, words, log, fault=None, count_of=""):
        ranks, logs = {}, [log.with_name(f"{log.name}-{rank}") for rank in range(RANKS)]
        port = _free_port() if RANKS > 1 else 0
        for rank in range(RANKS):
            child = os.fork()
            if child == 0:
                _become(rank, port)
                _child(words, logs[rank], fault if rank == STRUCK else None, count_of if rank == STRUCK else "")
            ranks[child] = rank
        end, statuses = time.monotonic() + PATIENCE, {}
        while ranks and time.monotonic() < end:
            done, code = os.waitpid(-1, os.WNOHANG)
            if done:
                statuses[ranks.pop(done)] = os.waitstatus_to_exitcode(code)
                if any(status not in (0, 75) for status in statuses.values()):
                    end = min(end, time.monotonic() + 10)
            else:
                time.sleep(0.02)
        for child in ranks:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
        hung = len(ranks) == RANKS or STRUCK in ranks.values()
        bad = [status for status in statuses.values() if status]
        self.status = None if hung else bad[0] if bad else 0
        self.text = "".join(log.read_text(errors="replace") for log in logs)


def _free_port():
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


def _become(rank, port):
    if RANKS > 1:
        own = {"RANK": rank, "WORLD_SIZE": RANKS, "LOCAL_RANK": rank, "LOCAL_WORLD_SIZE": RANKS}
        os.environ.update({name: str(value) for name, value in own.items()}, MASTER_ADDR="127.0.0.1")
        os.environ["MASTER_PORT"] = str(port)


def _shorten():
    """Limits of minutes are of seconds here, so that a sweep of hangs has an end."""
    prepare.SLOW = prepare._READING = trainer.SLOW = watchdog.SLOW = trainer.Hook.patience = trainer.MARGIN = LIMIT
    pretraining.CLOSING = LIMIT / 3


def _child(words, log, fault, count_of):
    if fault is not None and fault[5] == 3:
        _shorten()
    output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(output, 1)
    os.dup2(output, 2)
    files.PAUSES = (0.0, 0.0, 0.0)
    disk = ctypes.CDLL(None)
    status = 99
    try:
        if fault is not None:
            disk.faulty_set(*fault)
        status = main(words)
    except SystemExit as error:
        status = error.code if isinstance(error.code, int) else 1
    except BaseException:
        import traceback

        with contextlib.suppress(OSError):
            traceback.print_exc()
    finally:
        if count_of:
            Path(count_of).write_text(str(disk.faulty_count()))
        sys.stdout.flush()
        os._exit(status)


def result_of(run):
    """The bits and rows that a run leaves."""
    found = {}
    for path in sorted(run.glob(f"checkpoints/step-{STEPS:08d}/*.safetensors")):
        found[path.name] = hashlib.sha256(path.read_bytes()).hexdigest()
    found["metrics"] = [repeatable(row) for row in read_rows(run / "metrics.jsonl")]
    for rank in range(RANKS):
        found[f"samples-{rank}"] = read_rows(run / "samples" / f"rank-{rank:05d}.jsonl")
    return found


def names_below(run):
    """The path of everything in a run folder, relative to it."""
    return {path.relative_to(run).as_posix() for path in run.rglob("*")}


class Sweep:
    def __init__(self, work, shards, phase):
        self.work, self.phase = work, phase
        self.config = work / "config.yaml"
        self.config.write_text(CONFIG.format(shards=shards, steps=STEPS))
        self.whole = work / "whole"
        assert self.attempt(self.whole).status == 0
        self.half = work / "half"
        shutil.copytree(self.whole, self.half)
        shutil.rmtree(self.half / f"checkpoints/step-{STEPS:08d}")
        self.expected, self.names = result_of(self.whole), names_below(self.whole)
        assert len(self.expected["metrics"]) == STEPS

    def attempt(self, run, fault=None, count_of=""):
        words = ["pretrain", str(self.config), f"output={run}"]
        if fault is not None and fault[5] == 3:
            words += [f"train.watchdog_seconds={LIMIT}", f"checkpoint.patience_seconds={LIMIT}"]
        return Attempt(words, self.work / "log", fault, count_of)

    def place(self):
        run = self.work / "trial"
        shutil.rmtree(run, ignore_errors=True)
        if self.phase == "resume":
            shutil.copytree(self.half, run)
        return run

    def calls(self, kinds):
        run = self.place()
        fault = (str(run).encode(), kinds.encode(), 0, 0, 0, 0)
        self.attempt(run, fault, count_of=str(self.work / "count"))
        return int((self.work / "count").read_text())

    def trial(self, kind, number, nth, mode, times):
        """What is wrong; empty when nothing is."""
        run = self.place()
        first = self.attempt(run, (str(run).encode(), kind.encode(), nth, times, number, mode))
        ended = first.status == 0 and names_below(run) == self.names and result_of(run) == self.expected
        second = first if ended else self.attempt(run)
        for attempt in (first, second):
            if attempt.status is None:
                return "hang"
            if "Traceback" in attempt.text:
                return "traceback: " + attempt.text.strip().splitlines()[-1][:200]
        if second.status != 0:
            return f"status {first.status}, then {second.status}: {second.text.strip()[-200:]}"
        if first.status == 2:
            return f"refused: {first.text.strip()[-200:]}"
        wrong = [name for name, value in result_of(run).items() if value != self.expected[name]]
        # a log that this disk never took: the run is whole, and says what of its log is not
        told = [
            name for name in wrong if f"{name.rpartition('-')[2].zfill(5)}.jsonl could not be written" in first.text
        ]
        wrong = [name for name in wrong if not (name.startswith("samples-") and name in told)]
        return f"status {first.status}; differs in {', '.join(wrong)}" if wrong else ""


def run_sweep(work, shards, phase, every, first=1, faults=tuple(FAULTS), until=None):
    """(trials, {problem: count}) of every `every`-th call of each kind."""
    sweep, trials, problems = Sweep(work, shards, phase), 0, Counter()
    for name in faults:
        number, mode, kinds = FAULTS[name]
        kinds = [kind for kind in kinds if kind in os.environ.get("SWEEP_KINDS", kinds)]
        for kind in kinds:
            total = sweep.calls(kind)
            for times in (1, -1) if name == "eio" else (1,):
                begin = first if first > 0 else max(1, total + 1 + first)
                for nth in range(begin if times == 1 else 1, total + 1, every if times == 1 else 3 * every):
                    if until is not None and time.monotonic() > until:
                        return trials, problems
                    trials += 1
                    problem = sweep.trial(kind, number, nth, mode, times)
                    if problem:
                        problems[problem[:60]] += 1
                        print(f"{phase} {name} {kind} {nth} of {total} x{times}: {problem}", flush=True)
    return trials, problems


if __name__ == "__main__":
    words = sys.argv[1:]
    Path(words[0]).mkdir(parents=True, exist_ok=True)
    if not hasattr(ctypes.CDLL(None), "faulty_set"):
        preloaded = {"OMP_NUM_THREADS": "1", **os.environ, "LD_PRELOAD": str(build_layer(Path(words[0]).absolute()))}
        os.execve(sys.executable, [sys.executable, __file__, *words], preloaded)
    limit = time.monotonic() + float(os.environ["SWEEP_SECONDS"]) if "SWEEP_SECONDS" in os.environ else None
    chosen = tuple(os.environ.get("SWEEP_FAULTS", ",".join(FAULTS)).split(","))
    begin = int(words[4]) if words[4:] else 1
    done, wrong = run_sweep(Path(words[0]), Path(words[1]), words[2], int(words[3]), begin, chosen, limit)
    print(f"{words[2]}: {done} trials, {sum(wrong.values())} with problems: {dict(wrong)}")
    sys.exit(bool(wrong))
