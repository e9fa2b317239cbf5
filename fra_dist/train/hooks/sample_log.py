"""The sample log, with `log.samples`: which samples each rank trained on, to compare runs or to trace a bad batch."""

from collections.abc import Mapping

from torch import Tensor

from fra_dist.data.loading.batch import Batch
from fra_dist.train.run_dir.folder import SAMPLES
from fra_dist.train.run_dir.row_file import RowFile
from fra_dist.train.trainer import Hook, Run


class SampleLog(Hook):
    """Adds a line for each step to `RUN/samples/rank-R.jsonl`: step, world size, ids in the order of the rank's batch.

    The global batch of a step consists of the ids of all ranks; rank r has the places r, r + world, ... of it.
    """

    def begin(self, run: Run) -> None:
        """Open the log of this rank, with `log.samples`."""
        self.rows: RowFile | None = None
        if run.config.log.samples:
            folder = run.folder.path / SAMPLES
            folder.mkdir(exist_ok=True)
            self.rows = RowFile(folder / f"rank-{run.ctx.rank:05d}.jsonl")

    def after_step(self, run: Run, batch: Batch, terms: Mapping[str, Tensor]) -> None:
        """Add the line of the step, unless it was left out."""
        if self.rows is not None and terms:  # nothing was trained on in a step that was left out
            self.rows.append({"step": run.completed, "world": run.ctx.world, "ids": batch.ids.tolist()})

    def went_back(self, run: Run) -> None:
        """Forget lines of undone steps that are still in memory."""
        if self.rows is not None:
            self.rows.forget(lambda row: row["step"] > run.completed)

    def end(self, run: Run) -> None:
        """Write the lines of samples that are still in memory to the log's file."""
        if self.rows is not None:
            self.rows.finish()
