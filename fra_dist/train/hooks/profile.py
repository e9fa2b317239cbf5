"""`--profile STEPS`: a trace of some steps of rank 0, and a short table of what takes time."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.profiler import ProfilerActivity, profile

from fra_dist import files
from fra_dist.data.loading.batch import Batch
from fra_dist.train.trainer import Hook, Run

_WARMUP, _ROWS = 3, 12


class Profile(Hook):
    """Traces steps after the first three of the attempt, writes RUN/profile/steps-A-B.json and prints the table.

    The trace opens in https://ui.perfetto.dev or chrome://tracing. Steps that are traced are slower.
    """

    def __init__(self, steps: int) -> None:
        """Trace so many steps."""
        self.steps = steps
        self._profiler: Any = None
        self._begin = -1

    def begin(self, run: Run) -> None:
        """Remember the step at which the attempt begins; the trace starts a few steps later."""
        self._first = run.completed

    def after_step(self, run: Run, batch: Batch, terms: Mapping[str, Tensor]) -> None:
        """On rank 0, start the trace once the first steps are over, and write it once enough steps are in it."""
        if not run.ctx.is_main:
            return
        if self._profiler is None and self._begin < 0 and run.completed >= self._first + _WARMUP:
            activities = [ProfilerActivity.CPU]
            if run.ctx.device.type == "cuda":
                activities.append(ProfilerActivity.CUDA)
            self._profiler, self._begin = profile(activities=activities, record_shapes=False), run.completed
            self._profiler.__enter__()
        elif self._profiler is not None and run.completed >= self._begin + self.steps:
            self._finish(run)

    def end(self, run: Run) -> None:
        """End a trace that the run did not live to see the end of."""
        if self._profiler is not None:
            self._finish(run)
        elif run.ctx.is_main and self._begin < 0:
            print(f"warning: --profile begins after {_WARMUP} steps, and there were fewer: no trace", flush=True)

    def _finish(self, run: Run) -> None:
        if run.ctx.device.type == "cuda":
            torch.cuda.synchronize()
        profiler, self._profiler = self._profiler, None
        profiler.__exit__(None, None, None)
        path = run.folder.path / "profile" / f"steps-{self._begin + 1}-{run.completed}.json"
        try:
            files.make_folder(path.parent)
            profiler.export_chrome_trace(str(path))
        except OSError as error:  # no reason to end the run
            print(f"warning: cannot write {path}: {error.strerror}", flush=True)
            return
        by = "self_cuda_time_total" if run.ctx.device.type == "cuda" else "self_cpu_time_total"
        print(profiler.key_averages().table(sort_by=by, row_limit=_ROWS, max_name_column_width=48), flush=True)
        print(f"trace of {run.completed - self._begin} steps: {path} (open it in https://ui.perfetto.dev)", flush=True)
        run.folder.note("profile", step=run.completed, path=str(path))
