"""The kinds of faults that strike at single calls to the disk of the run folder, by a preloaded library.

The library, `faulty_disk.c`, is compiled where the campaign runs: one for one C library would not load beside another.
"""

import errno
import os
import shutil
import subprocess
import sys
from pathlib import Path

from fra_dist.errors import LaunchError
from fra_dist.files import exists
from fra_dist.launch.chaos.campaign_setup import CampaignSetup
from fra_dist.launch.chaos.fault_draws import Fault
from fra_dist.launch.chaos.process_faults import Harm
from fra_dist.launch.chaos.trainings import Missed, Training, trainers

FOLDER = "FRA_DIST_FAULTY_DISK"
"""The environment variable that names the folder of the library's orders, with the run folder `run` in it."""
_ANY, _WRITING = "orwsntdfc", "owsn"
_FAIL, _SHORT, _KILL = range(3)
_ERRORS = {
    "EIO": (errno.EIO, _FAIL, _ANY),
    "ESTALE": (errno.ESTALE, _FAIL, _ANY),
    "ENOSPC": (errno.ENOSPC, _FAIL, _WRITING),
    "cut short": (0, _SHORT, "rw"),
}
"""What a call meets: {words: (errno, mode of the library, letters of the calls that may meet it)}."""


def build_layer(folder: Path) -> Path:
    """Compile the library into `folder` and return its path.

    Raises LaunchError when there is no C compiler, or when what it makes cannot be preloaded here.
    """
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if compiler is None:
        raise LaunchError("there is no C compiler (cc)")
    source, library = Path(__file__).with_name("faulty_disk.c"), folder / "faulty_disk.so"
    words = [compiler, "-O1", "-shared", "-fPIC", "-o", str(library), str(source), "-ldl"]
    made = subprocess.run(words, capture_output=True, text=True)
    if made.returncode:
        raise LaunchError(f"{compiler} cannot compile the library: {_last_line(made.stderr)}")
    there = [sys.executable, "-c", "import ctypes; ctypes.CDLL(None).faulty_count"]
    tried = subprocess.run(
        there, env={**os.environ, "LD_PRELOAD": _preloading(library)}, capture_output=True, text=True
    )
    if tried.returncode:
        raise LaunchError(f"the library cannot be preloaded: {_last_line(tried.stderr)}")
    return library


class ErringDisk(Harm):
    """Lets one call below the run folder fail once, or be cut short.

    In half of the cases that is while the training resumes: it is killed first, and the next start meets the error.
    """

    resumes = 0.5
    """The share of the faults that strike at a resumption."""

    def __init__(self, fault: Fault, setup: CampaignSetup) -> None:
        super().__init__(fault, setup)
        self.at_resumption = self.draw.random() < self.resumes
        self.rank = self.draw.randrange(setup.ranks)
        self.what, (self.number, self.mode, self.letters) = self.choose()
        self.nth = self.draw.randint(1, 12 if self.letters == "rw" else 24)
        self.attempt = 0
        """The number of the start that meets the fault; 0 before the moment of the fault."""
        self.orders: Path | None = None

    def choose(self) -> tuple[str, tuple[int, int, str]]:
        """Draw what the call meets, as in `_ERRORS`."""
        return self.draw.choice(list(_ERRORS.items()))

    def prepare(self, training: Training) -> None:
        """Have the library preloaded into every start. Raises LaunchError when it was not built."""
        if self.setup.fault_layer is None:
            raise LaunchError("the library of faults was not built")
        training.env = {"LD_PRELOAD": _preloading(self.setup.fault_layer), FOLDER: str(training.folder)}

    def strike(self, training: Training) -> None:
        """Kill the training when the next start is to meet the fault, and give the orders."""
        self.attempt = len(training.attempts)
        if self.at_resumption:
            training.kill()
            self.attempt += 1
        self.watch(training)

    def watch(self, training: Training) -> None:
        """Give the library its orders once the rank that meets the fault is there."""
        if self.orders is not None or len(training.attempts) < max(1, self.attempt):
            return
        found = trainers(training.attempt.process.pid)
        if len(found) < self.setup.ranks:
            return
        self.orders = training.folder / str(found[self.rank])
        draft = self.orders.with_suffix(".draft")
        draft.write_text(f"{self.letters} {self.nth} 1 {self.number} {self.mode}\n")
        draft.rename(self.orders)
        self.detail = f"{self.what}, call {self.nth} of {self.letters}" + " of a resumption" * self.at_resumption
        if self.setup.ranks > 1:
            self.detail += f", rank {self.rank}"

    def check(self, training: Training) -> None:
        """Note a problem when something printed a traceback. Raises Missed when no call met the fault."""
        if self.orders is None or not exists(self.orders.with_name(f"{self.orders.name}.struck")):
            raise Missed("no call met the fault")
        if any("Traceback" in attempt.log.read_text(errors="replace") for attempt in training.attempts):
            self.problem = "a traceback was printed"


class KilledAtACall(ErringDisk):
    """Kills a rank exactly before a call that writes: open, write, fsync, rename."""

    resumes = 0.25

    def choose(self) -> tuple[str, tuple[int, int, str]]:
        """Say that the process is killed."""
        return "kill -9", (0, _KILL, _WRITING)


def _preloading(library: Path) -> str:
    others = os.environ.get("LD_PRELOAD", "")
    return f"{library}:{others}" if others else str(library)


def _last_line(text: str) -> str:
    return (text.strip().splitlines() or ["it says nothing"])[-1]
