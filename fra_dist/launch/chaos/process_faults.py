"""What the kinds of faults do to a training; `fault_files.py` has those that strike at files."""

import signal
import time
from collections.abc import Mapping

from fra_dist.launch.chaos.campaign_setup import Scene
from fra_dist.launch.chaos.fault_draws import Fault
from fra_dist.launch.chaos.trainings import Attempt, Missed, Training, send, trainers
from fra_dist.train.injected_faults import VARIABLE

REFUSED = 2


class Harm:
    """One fault to one training. The methods are called in their order; `struck` is the moment of `strike`."""

    env: Mapping[str, str] = {}
    """Of the first attempt."""
    watched = False
    """Whether a single rank needs a launcher's task above it."""
    stalls = True
    """Whether no new step is made for a while."""
    damaged_shards = False
    """Whether the undisturbed training is the one on damaged shards."""

    def __init__(self, fault: Fault, scene: Scene) -> None:
        self.fault, self.scene, self.draw = fault, scene, fault.details()
        self.detail = ""
        self.problem = ""
        """Something that was not as it must be, although the training may have ended well."""
        self.struck = 0.0

    def prepare(self, training: Training) -> None:
        """Before the first start."""

    def wait(self, training: Training) -> None:
        """Until the moment has come. Raises Missed."""
        if self.fault.step:
            training.wait_for(self.fault.step, self.fault.offset * self.scene.step_seconds)
            return
        end = time.monotonic() + self.fault.offset * self.scene.start_seconds
        training.until(lambda: time.monotonic() >= end or training.reached() > 0)

    def strike(self, training: Training) -> None:
        """The fault itself."""

    def watch(self, training: Training) -> None:
        """Called all the time while an attempt runs after the moment."""

    def ended(self, training: Training, status: int | None) -> bool:
        """An attempt ended with `status`; True when another start makes sense."""
        if status == REFUSED:
            self.problem = f"refused: {training.attempt.last_line()}"
        return status is not None and status != REFUSED

    def mend(self, training: Training) -> None:
        """Before each further start."""

    def check(self, training: Training) -> None:
        """After the end."""

    def clean(self, training: Training) -> None:
        """Take back what may still be wrong; in any case."""

    def close(self, training: Training) -> None:
        """After the comparison."""

    def seconds(self) -> float:
        return time.monotonic() - self.struck


class Kill(Harm):
    def strike(self, training: Training) -> None:
        training.kill()


class KillOne(Harm):
    def strike(self, training: Training) -> None:
        victim = _victim(self, training)
        send([victim], signal.SIGKILL)


class Signal(Harm):
    """To the process that a user would signal, or to one of several ranks."""

    number = signal.SIGTERM

    def strike(self, training: Training) -> None:
        if self.scene.ranks > 1 and self.fault.step and self.draw.random() < 0.5:
            send([_victim(self, training)], self.number)
        else:
            send([training.attempt.process.pid], self.number)


class UserSignal(Signal):
    number = signal.SIGUSR2


class Stop(Harm):
    """SIGSTOP, and SIGCONT after a while; or never, so that watchdog and launcher must notice."""

    _LONG = 60.0

    def __init__(self, fault: Fault, scene: Scene) -> None:
        super().__init__(fault, scene)
        self.for_good = self.draw.random() < 0.4
        self.watched = self.for_good
        self.pause = self.draw.uniform(0.5, 4.0)
        self.victim = 0

    def strike(self, training: Training) -> None:
        self.victim = _victim(self, training)
        send([self.victim], signal.SIGSTOP)
        how = "for good" if self.for_good else f"for {self.pause:.1f} s"
        self.detail = f"{self.detail} {how}".strip()

    def watch(self, training: Training) -> None:
        if self.victim and self.seconds() > (self._LONG if self.for_good else self.pause):
            if self.for_good:
                self.detail += ", killed by hand"
            send([self.victim], signal.SIGKILL if self.for_good else signal.SIGCONT)
            self.victim = 0

    def ended(self, training: Training, status: int | None) -> bool:
        self.victim = 0  # its number may be another's now
        return super().ended(training, status)


class NotFinite(Harm):
    """The step reads NaN once; the guard goes back to the last checkpoint and tries again."""

    def __init__(self, fault: Fault, scene: Scene) -> None:
        super().__init__(fault, scene)
        self.env = {VARIABLE: f"nan@{fault.step}"}

    def wait(self, training: Training) -> None:
        training.wait_for(self.fault.step - 1)

    def check(self, training: Training) -> None:
        guarded = training.events("guard")
        if not any(row.get("step") == self.fault.step and row.get("action") == "retry" for row in guarded):
            self.problem = "the guard did not see it"


class TwoStarts(Harm):
    """A second start of the same command while the first is alive: exactly one of them trains."""

    stalls = False
    other: Attempt | None = None

    def wait(self, training: Training) -> None:
        training.sleep(self.fault.offset * min(0.5, self.scene.length.steps * self.scene.step_seconds / 4))

    def strike(self, training: Training) -> None:
        self.other = training.launch("second-start")
        training.others.append(self.other)

    def ended(self, training: Training, status: int | None) -> bool:
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
        said = [line for line in second.log.read_text(errors="replace").splitlines() if line.startswith("fra-dist ")]
        if second.process.returncode != REFUSED or not said or "is writing to" not in said[-1]:
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
