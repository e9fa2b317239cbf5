"""The kinds of faults that strike at files: checkpoints, shards, the disk."""

import select
import signal
import subprocess
import sys
from pathlib import Path
from typing import IO

from fra_dist.data.loading.quarantine import read_quarantine
from fra_dist.exit_status import REFUSED
from fra_dist.files import is_file
from fra_dist.launch.chaos import small_disks
from fra_dist.launch.chaos.campaign_setup import AHEAD, CampaignSetup, damage_photos
from fra_dist.launch.chaos.fault_draws import Fault
from fra_dist.launch.chaos.process_faults import Harm
from fra_dist.launch.chaos.trainings import Missed, Training, send, trainers
from fra_dist.train.checkpoints.reading import MANIFEST, PARTS, list_checkpoints


class FlippedBit(Harm):
    """Kills the training and flips one bit of its newest checkpoint: the next start must use the one before."""

    def strike(self, training: Training) -> None:
        """Kill the training and damage a file of its newest checkpoint.

        Raises Missed when there is no second checkpoint.
        """
        training.kill()
        found = list_checkpoints(training.run / "checkpoints")
        if len(found) < 2:
            raise Missed("there is no second checkpoint")
        path = found[-1] / self.draw.choice([*PARTS, MANIFEST])
        self.detail = f"{path.parent.name}/{path.name}"
        self.spoil(path)

    def spoil(self, path: Path) -> None:
        """Flip one random bit of the file at `path`, in place."""
        data = bytearray(path.read_bytes())
        data[self.draw.randrange(len(data))] ^= 1 << self.draw.randrange(8)
        path.write_bytes(data)

    def check(self, training: Training) -> None:
        """Note a problem unless the training reported the damage."""
        if not any("damaged" in str(row.get("text")) for row in training.events("notice")):
            self.problem = "the damage was not reported"


class Cut(FlippedBit):
    """Kills the training and cuts off the end of a file of its newest checkpoint."""

    def spoil(self, path: Path) -> None:
        """Truncate the file at `path` to a random length below its own."""
        with path.open("r+b") as stream:
            stream.truncate(self.draw.randrange(path.stat().st_size))


class FullDisk(Harm):
    """Fills the disk of the run folder for a while, or until the attempt has ended.

    Where no small disk can be mounted, the size of the files that the ranks may write is limited instead.
    """

    filler: Path | None = None
    """The file that fills the disk; None while nothing does."""
    mounted = limited = False
    """mounted: the run folder is on a small disk of its own. limited: the ranks may write only small files."""

    def prepare(self, training: Training) -> None:
        """Draw how long the disk stays full, and mount a small disk on the run folder where that is possible."""
        self.pause = 0.5 + self.draw.uniform(1, 4) * self.setup.length.save_every * self.setup.step_seconds
        if self.setup.small_disks:
            self.mounted = small_disks.mount_small(training.run, 2 * self.setup.run_bytes + (16 << 20))

    def strike(self, training: Training) -> None:
        """Fill the disk until nothing, half a checkpoint or a whole one fits; or limit the size of files."""
        found = list_checkpoints(training.run / "checkpoints")
        size = sum(f.stat().st_size for f in found[-1].iterdir()) if found else 1 << 20
        if self.mounted:
            left = self.draw.choice([0, size // 2, size])
            self.filler = small_disks.fill(training.run, left)
            self.detail = f"{left / 1e6:.1f} MB left for {self.pause:.1f} s"
        else:
            self.limited = True
            small_disks.limit_files(trainers(training.attempt.process.pid), size // 8)
            self.detail = f"no file above {size / 8e6:.1f} MB for {self.pause:.1f} s"

    def watch(self, training: Training) -> None:
        """Free the disk again once the drawn time is over."""
        if self.seconds() > self.pause:
            self.mend(training)

    def mend(self, training: Training) -> None:
        """Free the disk again: delete the filler and lift the limit on the size of files."""
        if self.filler is not None:
            self.filler.unlink(missing_ok=True)
            self.filler = None
        if self.limited:
            small_disks.limit_files(trainers(training.attempt.process.pid), None)
            self.limited = False

    def check(self, training: Training) -> None:
        """Raise Missed unless an attempt failed to write something while the disk was full."""
        if not any("cannot write" in attempt.log.read_text(errors="replace") for attempt in training.attempts):
            raise Missed("nothing was to be written while the disk was full")

    def clean(self, training: Training) -> None:
        """Free the disk again, if that has not happened yet."""
        self.mend(training)

    def close(self, training: Training) -> None:
        """Unmount the small disk that the run folder was on, if it is still mounted."""
        if self.mounted:
            small_disks.unmount(training.run)


class OnCopy(Harm):
    """A fault that strikes at a copy of the shards."""

    def prepare(self, training: Training) -> None:
        """Copy the shards into the folder of the training, which then reads the copy."""
        self.shards = training.folder / "shards"
        training.configure(self.setup.copy_shards(self.shards))


class CorruptShard(OnCopy):
    """Damages photos before they are read; in half of the cases the training is killed at the same moment."""

    damaged_shards = True

    def prepare(self, training: Training) -> None:
        """Copy the shards and choose the photos to damage."""
        super().prepare(training)
        self.samples = self.setup.damaged()

    def strike(self, training: Training) -> None:
        """Damage the chosen photos and perhaps kill the training.

        Raises Missed when they may have been read already.
        """
        damage_photos(self.shards, self.setup.manifest, self.samples, self.draw)
        first = min(self.setup.first_use[sample] for sample in self.samples)
        if training.reached() + AHEAD > first:
            raise Missed("the photos may have been read already")
        self.detail = f"{len(self.samples)} photos"
        if self.draw.random() < 0.5:
            self.detail += ", and kill -9"
            training.kill()

    def check(self, training: Training) -> None:
        """Note a problem unless exactly the damaged photos are in quarantine."""
        noted = {bad.id for bad in read_quarantine(training.run)}
        if noted != set(self.samples):
            self.problem = f"samples {sorted(noted)} are in quarantine and not {self.samples}"


class VanishedShard(OnCopy):
    """Moves a shard away: one that will be needed later, or any one while the training is killed.

    Then it is put back.
    """

    hidden: tuple[Path, Path] | None = None
    """Where the shard was and where it was moved to; None while it is in place."""
    refusals = 0
    """How many starts refused to run because the shard was missing."""

    def strike(self, training: Training) -> None:
        """Move a shard away, and kill the training unless the shard is one that it needs later."""
        late = self.setup.late_shards(training.reached())
        running = bool(late) and self.draw.random() < 0.5
        number = self.draw.choice(late if running else range(len(self.setup.manifest.shards)))
        path = self.shards / self.setup.manifest.shards[number].name
        self.name = path.name
        self.hidden = (path, path.with_suffix(".away"))
        path.rename(self.hidden[1])
        if not running:
            training.kill()
        self.detail = f"{path.name} {'before it was needed' if running else 'and kill -9'}"

    def ended(self, training: Training, status: int | None) -> bool:
        """Put the shard back after the first refusal, which must name it; True when another start makes sense."""
        if status != REFUSED:
            return super().ended(training, status)
        said = training.attempt.last_line()
        self.refusals += 1
        if not said.startswith("fra-dist ") or self.name not in said:
            self.problem = f"the error does not name the shard: {said}"
        if self.refusals == 1 and self.hidden is not None:
            self.hidden[1].rename(self.hidden[0])
            self.hidden = None
            return True
        return False

    def check(self, training: Training) -> None:
        """Note a problem unless a start refused to run without the shard."""
        if not self.refusals and not self.problem:
            self.problem = "no start refused the missing shard"


class SlowDisk(OnCopy):
    """Makes each file of the data set take up to two seconds to open.

    Where the file system does not allow that, the ranks are stopped and continued in turn for ten seconds instead.
    """

    helper: "subprocess.Popen[str] | None" = None
    """The process that makes files slow (`slow_files`); None before it was started."""

    def __init__(self, fault: Fault, setup: CampaignSetup) -> None:
        super().__init__(fault, setup)
        self.pulses = False
        self.stopped = 0

    def prepare(self, training: Training) -> None:
        """Copy the shards and start the process that makes the copy slow."""
        super().prepare(training)
        files = [str(path) for path in sorted(self.shards.iterdir()) if is_file(path)]
        self.helper = subprocess.Popen(
            [sys.executable, "-m", "fra_dist.launch.chaos.slow_files", "2", str(self.fault.seed), *files],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.pulses = self._line() != "ready"
        self.detail = "ranks stop and go" if self.pulses else f"{len(files)} files open slowly"

    def wait(self, training: Training) -> None:
        """Wait until a rank waits for a slow file or, with ranks that stop and go, for the first step."""
        if self.pulses:
            training.wait_for(1)
        else:
            training.until(lambda: self.waiting)

    @property
    def waiting(self) -> bool:
        """Whether the helper has reported that a rank waits for a file."""
        return bool(select.select([self._said], [], [], 0)[0])

    def watch(self, training: Training) -> None:
        """With ranks that stop and go: stop or continue them every 0.3 seconds."""
        if self.pulses and self.seconds() < 10 and int(self.seconds() / 0.3) != self.stopped:
            self.stopped = int(self.seconds() / 0.3)
            number = signal.SIGSTOP if self.stopped % 2 else signal.SIGCONT
            send(trainers(training.attempt.process.pid), number)

    def clean(self, training: Training) -> None:
        """End the helper, which makes all files fast again."""
        if self.helper is not None:
            assert self.helper.stdin is not None
            self.helper.stdin.close()
            self.helper.wait()

    def _line(self) -> str:
        return self._said.readline().strip()

    @property
    def _said(self) -> IO[str]:
        assert self.helper is not None
        assert self.helper.stdout is not None
        return self.helper.stdout
