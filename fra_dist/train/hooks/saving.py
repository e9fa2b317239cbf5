"""When a run saves: every N steps, every M minutes, when it is asked to stop, and at the end."""

import sys
import time
from collections.abc import Mapping

from torch import Tensor

from fra_dist import distributed
from fra_dist.data.loading.batch import Batch
from fra_dist.errors import SaveError
from fra_dist.train.checkpoints.background_writer import BUSY_WAIT, WriteResult
from fra_dist.train.checkpoints.best_metric import missing_metric
from fra_dist.train.checkpoints.writing import Contents
from fra_dist.train.run_dir.folder import versions
from fra_dist.train.trainer import Hook, Run


class Checkpoints(Hook):
    """Saves checkpoints. A periodic one that fails is reported and training continues; the last one must succeed.

    Every rank takes part in gathering the state; rank 0 writes. What happened to a checkpoint is recorded in the
    history at the first step boundary after it happened.
    """

    def begin(self, run: Run) -> None:
        """Start the clock of `checkpoint.every_minutes`."""
        self.saved_at = time.monotonic()
        self.left_out, self.failed, self.unsure = 0, "", False
        self.looked = False
        self.versions = versions(run.ctx.device)
        self._look_for_best(run)  # scores of labelled faces may be there

    def after_step(self, run: Run, batch: Batch, terms: Mapping[str, Tensor]) -> None:
        """Report checkpoints that have ended, and save when one is due. Every rank calls it."""
        settings = run.config.checkpoint
        self._report(run)
        self._look_for_best(run)
        if run.save_due or run.completed % settings.every_steps == 0:
            self._save(run)
        late = time.monotonic() - self.saved_at > settings.every_minutes * 60
        run.save_due = run.ctx.is_main and late and not run.saver.busy  # all ranks hear of it at the next boundary

    def end(self, run: Run) -> None:
        """Save the state of the last step; returns on all ranks once it is on the disk, or raises SaveError on all."""
        if run.completed == 0 or distributed.from_main(lambda: self._settle(run)) == run.completed:
            return
        self._save(run)
        if distributed.from_main(lambda: self._settle(run)) != run.completed:
            error = distributed.from_main(lambda: self.failed)
            raise SaveError(f"{error}; start the same command again when that is mended")

    def _save(self, run: Run) -> None:
        model = run.engine.model_state()
        optimizer = run.engine.optimizer_state()
        self.saved_at = time.monotonic()
        if not run.ctx.is_main:
            return
        run.folder.flush()  # nothing writes rows of steps before a checkpoint again
        row = run.folder.latest if run.folder.latest.get("step") == run.completed else {}
        contents = Contents(run.completed, run.config, model, optimizer, self.versions, row, dict(run.memory))
        if run.saver.save(contents, run.folder.sync_rows):
            self.left_out = 0
            return
        self.left_out += 1
        if self.left_out == 1:
            self._warn(
                run,
                f"checkpoint of step {run.completed} left out: after {BUSY_WAIT:.0f} s the disk has not taken the one "
                f"before; those that follow are left out as well until it has",
            )

    def _look_for_best(self, run: Run) -> None:
        """Warn once on rank 0 when the first row that should have the metric of keep_best lacks it."""
        name, row = run.config.checkpoint.keep_best, run.folder.latest
        if name is None or self.looked or not run.ctx.is_main or row.get("step") != run.completed:
            return
        if (text := missing_metric(name, row)) is not None:
            self._warn(run, text)
        self.looked = name in row or text is not None

    def _settle(self, run: Run) -> int:
        """Wait on rank 0 for the checkpoint that is being written; return the newest step on the disk.

        Raises SaveError on a disk that hangs.
        """
        patience = run.config.checkpoint.patience_seconds
        if run.saver.busy and not run.saver.wait(2.0):
            print(f"waiting for the disk to take the checkpoint, {patience:.0f} s at most", file=sys.stderr, flush=True)
        if not run.saver.wait(patience):
            raise SaveError(
                f"the disk of {run.folder.checkpoints} has not taken the last checkpoint in {patience:.0f} s "
                f"(checkpoint.patience_seconds): the run resumes from the newest that is there"
            )
        self._report(run)
        return run.saver.newest

    def _report(self, run: Run) -> None:
        for outcome in run.saver.finished():
            if outcome.unsure and not self.unsure:
                self._warn(run, f"the rows before step {outcome.step} might not outlive a power cut: {outcome.unsure}")
            self.unsure = bool(outcome.unsure)
            if outcome.error is None:
                self._note_success(run, outcome)
            elif isinstance(outcome.error, SaveError):
                self.failed = str(outcome.error)
                self._warn(run, f"{outcome.error}; training continues")
            else:
                raise outcome.error  # superseded by a newer attempt, or a defect

    def _note_success(self, run: Run, outcome: WriteResult) -> None:
        assert outcome.path is not None
        times = {"stall_seconds": round(outcome.stall, 4), "write_seconds": round(outcome.seconds, 3)}
        gone = {"deleted": list(outcome.deleted)} if outcome.deleted else {}
        run.folder.note("checkpoint", step=outcome.step, name=outcome.path.name, **times, **gone)

    def _warn(self, run: Run, text: str) -> None:
        run.folder.note("warning", text=text)
        print(f"warning: {text}", file=sys.stderr, flush=True)
