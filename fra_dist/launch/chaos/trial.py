"""The trial of one fault: a training, the fault in it, starts until it is done, and the comparison at the end."""

import shutil
import time
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event

from fra_dist.errors import CheckpointError, LaunchError
from fra_dist.files import exists
from fra_dist.launch.chaos import erring_disk, file_faults, process_faults
from fra_dist.launch.chaos.campaign_setup import CampaignSetup
from fra_dist.launch.chaos.fault_draws import Fault
from fra_dist.launch.chaos.process_faults import Harm
from fra_dist.launch.chaos.trainings import Missed, Training, steps_lost
from fra_dist.launch.resume_verdict import compare_runs

MOST_STARTS = 6
"""The number of starts after which a trial gives up."""
HARMS: dict[str, type[Harm]] = {
    "kill -9": process_faults.Kill,
    "kill -9 of one rank": process_faults.KillOne,
    "SIGTERM": process_faults.Signal,
    "SIGUSR2": process_faults.UserSignal,
    "SIGSTOP": process_faults.PausedRank,
    "NaN in a batch": process_faults.NotFinite,
    "two starts": process_faults.TwoStarts,
    "flipped bit in checkpoint": file_faults.FlippedBit,
    "cut checkpoint": file_faults.Cut,
    "full disk": file_faults.FullDisk,
    "disk error": erring_disk.ErringDisk,
    "kill at a call": erring_disk.KilledAtACall,
    "corrupt shard": file_faults.CorruptShard,
    "vanished shard": file_faults.VanishedShard,
    "slow disk": file_faults.SlowDisk,
}
"""The class of each kind of fault, by the names in `fault_draws.KINDS`."""


@dataclass
class FaultResult:
    """The row of one fault in a campaign's results: what was done, how the training ended, and what it cost."""

    fault: int
    """The number of the fault within the campaign, from 1."""
    kind: str
    """The kind of the fault, one of `fault_draws.KINDS`."""
    step: int
    """The last step that was done when the fault struck."""
    detail: str = ""
    """What exactly was done, in words."""
    outcome: str = "gave up"
    """"finished", "gave up", or "missed": each time the training was over before the fault could strike."""
    statuses: list[int | None] = field(default_factory=list)
    """The exit status of each start; None: it hung."""
    steps_lost: int = 0
    """The number of steps that had to be done again."""
    recover_seconds: float | None = None
    """The longest time after the fault without a step that had not been done before; None when it was not measured."""
    seconds: float = 0.0
    """Seconds that the whole training took, all starts together."""
    identical: bool = False
    """Whether the finished run equals the undisturbed one bit for bit."""
    difference: str = ""
    """The first difference from the undisturbed run, or what else was not as it must be; empty when all is well."""

    @property
    def good(self) -> bool:
        """Whether the training finished, identical to the undisturbed one, with nothing to complain about."""
        return self.outcome == "finished" and self.identical and not self.difference


class FaultTrial:
    """The trial of one fault, in `folder/fault-N`, which is deleted when all is well unless `keep` is set."""

    def __init__(self, fault: Fault, setup: CampaignSetup, folder: Path, stop: Event, keep: bool = False) -> None:
        self.fault, self.setup, self.stop, self.keep = fault, setup, stop, keep
        self.folder = folder / f"fault-{fault.number:03d}"
        self.row = FaultResult(fault.number, fault.kind, fault.step)

    def run(self, undisturbed: Path) -> FaultResult:
        """Run the trial and compare with the run folder `undisturbed`; return its row.

        It is run again when the moment of the fault was missed. Raises Interrupted when the campaign is being ended.
        """
        for _ in range(4):
            shutil.rmtree(self.folder, ignore_errors=True)
            harm = HARMS[self.fault.kind](self.fault, self.setup)
            self.row = FaultResult(self.fault.number, self.fault.kind, self.fault.step)
            training = Training(self.folder, self.setup.config, self.setup.ranks, self.stop)
            try:
                self._suffer(training, harm)
                self._compare(training, harm, undisturbed)
                break
            except Missed as error:
                self.row.outcome, self.row.difference = "missed", str(error)
            except LaunchError as error:
                self.row.difference = str(error)
                break
            finally:
                harm.clean(training)
                training.close()
                if not self.row.good and exists(training.run / "config.yaml"):
                    shutil.copytree(training.run, self.folder / "kept", ignore=shutil.ignore_patterns("filler"))
                harm.close(training)
        if self.row.good and not self.keep:
            shutil.rmtree(self.folder, ignore_errors=True)
        return self.row

    def _suffer(self, training: Training, harm: Harm) -> None:
        row = self.row
        began = time.monotonic()
        harm.prepare(training)
        training.start(harm.env, harm.watched)
        harm.wait(training)
        row.step = training.reached()
        if row.step == training.steps:
            raise Missed("the training was over first")
        harm.struck = time.monotonic()
        harm.strike(training)
        row.step = max(row.step, training.reached())  # it continued while the fault was being put in

        furthest, since = row.step, harm.struck

        def watch() -> None:
            nonlocal furthest, since
            harm.watch(training)
            now, reached = time.monotonic(), training.reached()
            if reached > furthest:
                if harm.stalls:
                    row.recover_seconds = round(max(row.recover_seconds or 0.0, now - since), 2)
                furthest, since = reached, now

        while True:
            status = training.wait(watch)
            row.statuses.append(status)
            again = harm.ended(training, status)
            if training.complete or not again or len(training.attempts) == MOST_STARTS:
                break
            harm.mend(training)
            training.start()
        row.seconds = round(time.monotonic() - began, 2)
        row.outcome = "finished" if training.complete else "gave up"
        row.steps_lost = steps_lost(training.attempts)
        row.detail = harm.detail

    def _compare(self, training: Training, harm: Harm, undisturbed: Path) -> None:
        if self.row.outcome != "finished":
            self.row.difference = harm.problem or training.attempt.last_line()
            return
        harm.check(training)
        try:
            verdict = compare_runs(undisturbed, training.run)
        except CheckpointError as error:
            self.row.difference = str(error)
            return
        self.row.identical = verdict.good
        self.row.difference = "; ".join([*verdict.faults, *([harm.problem] if harm.problem else [])])
