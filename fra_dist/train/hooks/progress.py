"""The progress of a run for whoever watches it: a bar on a terminal, lines in a log."""

import sys
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from fra_dist.data.loading.batch import Batch
from fra_dist.formats import clock_text
from fra_dist.safe_output import quiet
from fra_dist.train.hooks.metrics import Metrics
from fra_dist.train.trainer import Hook, Run


class Progress(Hook):
    """Shows the progress of a run: a bar on a terminal, elsewhere a line at every log step."""

    def __init__(self, metrics: Metrics) -> None:
        self.metrics = metrics

    def begin(self, run: Run) -> None:
        """Show a progress bar of the run's steps, on rank 0 and only if standard error is a terminal."""
        self.bar: Any = None
        self.shown = run.completed
        self.quiet = quiet()
        if run.ctx.is_main and sys.stderr.isatty() and not self.quiet:
            from tqdm import tqdm

            self.bar = tqdm(total=run.sizes.total_steps, initial=run.completed, desc=run.config.name, unit="step")

    def after_step(self, run: Run, batch: Batch, terms: Mapping[str, Tensor]) -> None:
        """Move the bar and, at a log step, show the newest metrics."""
        if self.bar is not None:
            self.bar.update(run.completed - self.bar.n)
        row = self.metrics.last_row
        if self.quiet or not run.ctx.is_main or row.get("step") != run.completed:
            return
        if self.bar is not None:
            self.bar.set_postfix_str(_brief(row), refresh=False)
        else:
            print(
                f"step {run.completed}/{run.sizes.total_steps}  {_brief(row)}  left {clock_text(row['seconds_left'])}",
                flush=True,
            )

    def end(self, run: Run) -> None:
        """Close the progress bar, if there is one."""
        if self.bar is not None:
            self.bar.close()


def _brief(row: Mapping[str, Any]) -> str:
    parts = [f"{name.removeprefix('loss/')} {_number(row[name])}" for name in _SHOWN if name in row]
    return "  ".join([*parts, f"{row['images_per_second']:.0f} images/s", f"data wait {row['data_wait']:.0%}"])


def _number(value: float | None) -> str:
    return "not finite" if value is None else f"{value:.3f}"


_SHOWN = ("loss/total", "loss/global", "loss/local", "loss/relation")
