"""What happens around the steps: metrics and progress; `checkpoint_hook.py` has the checkpoints."""

import os
import sys
import time
from collections.abc import Mapping
from math import isfinite
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from fra_dist.data.batch import Batch
from fra_dist.data.quarantine import append_quarantine, judge, read_quarantine
from fra_dist.train.trainer import Hook, Run

_METRIC_NAMES = {
    "applied": "step/applied",
    "gradient_norm": "gradient/norm",
    "embedding_spread": "embedding/spread",
    "query_cosine": "queries/cosine",
    "similarity_spread": "regions/similarity_spread",
    "region_share_min": "regions/min_share",
    "regions_in_use": "regions/in_use",
    "matched": "regions/matched",
    "overlap": "views/overlap",
    "revived": "regions/revived",
}


class Metrics(Hook):
    """Every `log.every_steps`: fetch the terms once, write a row, hand it to the progress display and TensorBoard."""

    patience = 0.0  # on a GPU, an exchange that is stuck is first waited for here

    def begin(self, run: Run) -> None:
        self.found = 0
        self.known = len(read_quarantine(run.folder.path))
        self.writer: Any = None
        self.last_row: dict[str, Any] = {}
        if run.config.log.tensorboard and run.ctx.is_main:
            from torch.utils.tensorboard import SummaryWriter  # slow to import, and only rank 0 needs it

            self.writer = SummaryWriter(str(run.folder.path / "tensorboard"), purge_step=run.completed)
        self._restart_clock(run)

    def after_step(self, run: Run, batch: Batch, terms: Mapping[str, Tensor]) -> None:
        if batch.quarantined:
            self.found += len(batch.quarantined)
            append_quarantine(run.folder.path, batch.quarantined, run.completed)
        if run.completed % run.config.log.every_steps and run.completed < run.sizes.total_steps:
            return
        bad = run.loader.quarantine
        counts = torch.tensor([self.found, len(bad.met), bad.read], dtype=torch.float64, device=run.ctx.device)
        values = torch.cat([torch.stack([v.double() for v in terms.values()]), counts / run.ctx.world])
        *means, found, met, read = run.ctx.cross.mean(values).tolist()
        names = [_METRIC_NAMES.get(name, f"loss/{name}") for name in terms]
        row = {"step": run.completed, **{n: v if isfinite(v) else None for n, v in zip(names, means, strict=True)}}
        row |= self._pace(run)
        row |= {"lr": run.step.learning_rate(batch.step), "ema_momentum": run.step.ema_momentum(batch.step)}
        row["quarantined"] = self.known + round(found)
        run.folder.log(row)
        if self.writer is not None:
            for name, value in row.items():
                if value is not None:
                    self.writer.add_scalar(name, value, run.completed)
        self.last_row = row
        judge(round(met), round(read), run.sizes.samples, run.config.data.max_bad_share)
        self._restart_clock(run)

    def end(self, run: Run) -> None:
        if self.writer is not None:
            self.writer.close()

    def _restart_clock(self, run: Run) -> None:
        self.since, self.since_step, self.since_wait = time.perf_counter(), run.completed, run.loader.wait_seconds

    def _pace(self, run: Run) -> dict[str, float]:
        seconds = max(time.perf_counter() - self.since, 1e-9)
        steps = max(run.completed - self.since_step, 1)  # fewer after the guard sent the run back
        left = (run.sizes.total_steps - run.completed) * seconds / steps
        wait = (run.loader.wait_seconds - self.since_wait) / seconds
        pace = {"images_per_second": steps * run.sizes.global_batch / seconds, "data_wait": wait, "seconds_left": left}
        pace["memory_mib"] = _memory(run)
        return {name: float(f"{value:.5g}") for name, value in pace.items()}


class Progress(Hook):
    """A bar on a terminal; elsewhere a line every log step."""

    def __init__(self, metrics: Metrics) -> None:
        self.metrics = metrics

    def begin(self, run: Run) -> None:
        self.bar: Any = None
        self.shown = run.completed
        if run.ctx.is_main and sys.stderr.isatty():
            from tqdm import tqdm

            self.bar = tqdm(total=run.sizes.total_steps, initial=run.completed, desc=run.config.name, unit="step")

    def after_step(self, run: Run, batch: Batch, terms: Mapping[str, Tensor]) -> None:
        if self.bar is not None:
            self.bar.update(run.completed - self.bar.n)
        row = self.metrics.last_row
        if not run.ctx.is_main or row.get("step") != run.completed:
            return
        if self.bar is not None:
            self.bar.set_postfix_str(_brief(row), refresh=False)
        else:
            print(
                f"step {run.completed}/{run.sizes.total_steps}  {_brief(row)}  left {_clock(row['seconds_left'])}",
                flush=True,
            )

    def end(self, run: Run) -> None:
        if self.bar is not None:
            self.bar.close()


def _memory(run: Run) -> float:
    """MiB: resident in this process, or on a GPU the most that torch has held there."""
    if run.ctx.device.type == "cuda":
        return torch.cuda.max_memory_allocated(run.ctx.device) / 2**20
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def _brief(row: Mapping[str, Any]) -> str:
    parts = [f"{name.removeprefix('loss/')} {_number(row[name])}" for name in _SHOWN if name in row]
    return "  ".join([*parts, f"{row['images_per_second']:.0f} images/s", f"data wait {row['data_wait']:.0%}"])


def _number(value: float | None) -> str:
    return "not finite" if value is None else f"{value:.3f}"


_SHOWN = ("loss/total", "loss/global", "loss/local", "loss/relation")


def _clock(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
