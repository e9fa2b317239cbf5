"""The kinds of faults that strike at processes, and their base class; `file_faults` has those that strike at files."""

import signal
import time
from collections.abc import Mapping

from fra_dist.exit_status import REFUSED
from fra_dist.launch.chaos.campaign_setup import CampaignSetup
from fra_dist.launch.chaos.fault_draws import Fault
from fra_dist.launch.chaos.trainings import Missed, Training, TrainingStart, send, trainers
from fra_dist.train.injected_faults import VARIABLE


class Harm:
    """What one fault does to one training; the base class of all kinds.

    The methods are called in the order in which they are defined. `struck` is the moment of `strike` (monotonic
    seconds), `detail` describes what was done, and `draw` makes the random choices.
    """

    env: Mapping[str, str] = {}
    """Environment variables that the first attempt gets in addition."""
    watched = False
    """Whether a single rank needs a launcher's task above it, to be ended when it stops."""
    stalls = True
    """Whether the fault keeps new steps from being done for a while, so that the time to recover is measured."""
    damaged_shards = False
    """Whether the training is compared with the undisturbed one on damaged shards."""

    def __init__(self, fault: Fault, setup: CampaignSetup) -> None:
        self.fault, self.setup, self.draw = fault, setup, fault.details()
        self.detail = ""
        self.problem = ""
        """Something that was not as it must be, although the training may have ended well; empty when all is well."""
        self.struck = 0.0

    def prepare(self, training: Training) -> None:
        """Prepare the training for the fault; called once, before its first start. Does nothing by default."""

    def wait(self, training: Training) -> None:
        """Wait until the moment of the fault has come. Raises Missed when the training is over first."""
        if self.fault.step:
            training.wait_for(self.fault.step, self.fault.offset * self.setup.step_seconds)
            return
        end = time.monotonic() + self.fault.offset * self.setup.start_seconds
        training.until(lambda: time.monotonic() >= end or training.reached() > 0)

    def strike(self, training: Training) -> None:
        """Do the damage; called once, when `wait` returns. Does nothing by default."""

    def watch(self, training: Training) -> None:
        """Called again and again while an attempt runs after the moment of the fault."""

    def ended(self, training: Training, status: int | None) -> bool:
        """Called when an attempt has ended with `status` (None: it hung); True when another start makes sense."""
        if status == REFUSED:
            self.problem = f"refused: {training.attempt.last_line()}"
        return status is not None and status != REFUSED

    def mend(self, training: Training) -> None:
        """Repair what a restart needs; called before each start but the first. Does nothing by default."""

    def check(self, training: Training) -> None:
        """Called after the end of the training: note a `problem`, or raise Missed when the fault had no effect."""

    def clean(self, training: Training) -> None:
        """Take back whatever may still be wrong. Called in any case."""

    def close(self, training: Training) -> None:
        """Called last, after the comparison with the undisturbed training."""

    def seconds(self) -> float:
        """Return the seconds that have passed since `strike`."""
        return time.monotonic() - self.struck


class Kill(Harm):
    """Kills all processes of the training at once, as a machine that goes down does."""

    def strike(self, training: Training) -> None:
        """Send SIGKILL to all processes of the training."""
        training.kill()


class KillOne(Harm):
    """Kills one of several ranks with SIGKILL: the launcher must notice, end the others and start again."""

    def strike(self, training: Training) -> None:
        """Send SIGKILL to one rank, chosen at random."""
        victim = _victim(self, training)
        send([victim], signal.SIGKILL)


class Signal(Harm):
    """Sends SIGTERM to the process that a user would signal, or to one of several ranks."""

    number = signal.SIGTERM
    """The signal that is sent."""

    def strike(self, training: Training) -> None:
        """Send the signal to the launcher, or in half of the cases to a random rank when there are several."""
        if self.setup.ranks > 1 and self.fault.step and self.draw.random() < 0.5:
            send([_victim(self, training)], self.number)
        else:
            send([training.attempt.process.pid], self.number)


class UserSignal(Signal):
    """Sends SIGUSR2, with which SLURM announces the end of the time limit, as `Signal` sends SIGTERM."""

    number = signal.SIGUSR2
    """The signal that is sent."""


class PausedRank(Harm):
    """Stops a rank with SIGSTOP and continues it after a while, or never: then watchdog and launcher must notice."""

    _LONG = 60.0

    def __init__(self, fault: Fault, setup: CampaignSetup) -> None:
        super().__init__(fault, setup)
        self.for_good = self.draw.random() < 0.4
        self.watched = self.for_good
        self.pause = self.draw.uniform(0.5, 4.0)
        self.victim = 0

    def strike(self, training: Training) -> None:
        """Stop one rank, chosen at random, with SIGSTOP."""
        self.victim = _victim(self, training)
        send([self.victim], signal.SIGSTOP)
        how = "for good" if self.for_good else f"for {self.pause:.1f} s"
        self.detail = f"{self.detail} {how}".strip()

    def watch(self, training: Training) -> None:
        """Continue the rank after the drawn pause.

        One that is stopped for good is killed after a minute, if the launcher has not killed it.
        """
        if self.victim and self.seconds() > (self._LONG if self.for_good else self.pause):
            if self.for_good:
                self.detail += ", killed by hand"
            send([self.victim], signal.SIGKILL if self.for_good else signal.SIGCONT)
            self.victim = 0

    def ended(self, training: Training, status: int | None) -> bool:
        """Forget the rank, whose process number may be another's now; True when another start makes sense."""
        self.victim = 0  # its number may be another's now
        return super().ended(training, status)


class NotFinite(Harm):
    """Puts NaN into the batch of one step, once: the guard returns to the last checkpoint and does the step again."""

    def __init__(self, fault: Fault, setup: CampaignSetup) -> None:
        super().__init__(fault, setup)
        self.env = {VARIABLE: f"nan@{fault.step}"}

    def wait(self, training: Training) -> None:
        """Wait for the step before the one that reads NaN."""
        training.wait_for(self.fault.step - 1)

    def check(self, training: Training) -> None:
        """Note a problem unless the guard saw the step and retried it."""
        guarded = training.events("guard")
        if not any(row.get("step") == self.fault.step and row.get("action") == "retry" for row in guarded):
            self.problem = "the guard did not see it"


class TwoStarts(Harm):
    """Starts the same command a second time while the first is alive: exactly one of the two may train."""

    stalls = False
    other: TrainingStart | None = None
    """The second start; None before it, and once it has ended."""

    def wait(self, training: Training) -> None:
        """Wait for a drawn time: half a second and a quarter of the training at most."""
        training.sleep(self.fault.offset * min(0.5, self.setup.length.steps * self.setup.step_seconds / 4))

    def strike(self, training: Training) -> None:
        """Start the training's command a second time, in the same run folder, while the first is running."""
        self.other = training.launch("second-start")
        training.others.append(self.other)

    def ended(self, training: Training, status: int | None) -> bool:
        """Wait for both starts and note a problem unless one of them refused; True when another start makes sense."""
        if self.other is None:
            return super().ended(training, status)
        first, second, self.other = training.attempt, self.other, None
        if status == REFUSED:  # the second was quicker
            first, second = second, first
            training.attempts[-1] = first
        first.process.wait()
        second.process.wait()
        training.attempt.reached = training.reached()
        if second.process.returncode == 0 and "done already" in second.log.read_text(errors="replace"):
            raise Missed("the second start came when the first was done")
        messages = [
            line for line in second.log.read_text(errors="replace").splitlines() if line.startswith("fra-dist ")
        ]
        if second.process.returncode != REFUSED or not messages or "is writing to" not in messages[-1]:
            self.problem = f"the second start ended with {second.process.returncode}: {second.last_line()}"
        self.detail = f"{'first' if first is training.attempts[-1] and status != REFUSED else 'second'} trained"
        return first.process.returncode != REFUSED


def _victim(harm: Harm, training: Training) -> int:
    found = trainers(training.attempt.process.pid)
    if len(found) < training.ranks:
        raise Missed("not all ranks are there")
    rank = harm.draw.randrange(len(found))
    if training.ranks > 1:
        harm.detail = f"rank {rank}"
    return found[rank]
