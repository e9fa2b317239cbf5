"""With `log.samples`: which samples every rank trained on at every step, to compare runs or to trace a bad batch."""

from collections.abc import Mapping

from torch import Tensor

from fra_dist.data.loading.batch import Batch
from fra_dist.train.run_dir.folder import SAMPLES
from fra_dist.train.run_dir.row_file import RowFile
from fra_dist.train.trainer import Hook, Run


class SampleLog(Hook):
    """Each rank adds a line a step to `RUN/samples/rank-R.jsonl`: step, world size, ids in the order of its batch.

    The ids of the global batch are those of all ranks of the step, rank r having places r, r + world, ... of it.
    """

    def begin(self, run: Run) -> None:
        self.rows: RowFile | None = None
        if run.config.log.samples:
            folder = run.folder.path / SAMPLES
            folder.mkdir(exist_ok=True)
            self.rows = RowFile(folder / f"rank-{run.ctx.rank:05d}.jsonl")

    def after_step(self, run: Run, batch: Batch, terms: Mapping[str, Tensor]) -> None:
        if self.rows is not None and terms:  # nothing was trained on in a step that was left out
            self.rows.append({"step": run.completed, "world": run.ctx.world, "ids": batch.ids.tolist()})

    def went_back(self, run: Run) -> None:
        if self.rows is not None:
            self.rows.forget(lambda row: row["step"] > run.completed)

    def end(self, run: Run) -> None:
        if self.rows is not None:
            self.rows.flush()
