"""Metrics of a run: read from the device at log steps, summed over ranks, and written as rows."""

import os
import time
from collections.abc import Mapping
from math import isfinite
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from fra_dist.data.loading.batch import Batch
from fra_dist.data.loading.quarantine import FILE as QUARANTINE
from fra_dist.data.loading.quarantine import judge, quarantine_row, read_quarantine
from fra_dist.train.hooks.tensorboard import TensorBoard
from fra_dist.train.run_dir.row_file import RowFile
from fra_dist.train.trainer import Hook, Run

_METRIC_NAMES = {
    "applied": "step/applied",
    "gradient_norm": "gradient/norm",
    "noise_scale": "gradient/noise_scale",
    "embedding_spread": "embedding/spread",
    "embedding_rank": "embedding/rank",
    "query_cosine": "queries/cosine",
    "similarity_spread": "regions/similarity_spread",
    "region_overlap": "regions/overlap",
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
        self.bad = RowFile(run.folder.path / QUARANTINE)
        self.last_row: dict[str, Any] = {}
        self.board: TensorBoard | None = None
        if run.config.log.tensorboard and run.ctx.is_main:
            self.board = TensorBoard(run.folder.path / "tensorboard", run.completed)
        self._restart_clock(run)

    def after_step(self, run: Run, batch: Batch, terms: Mapping[str, Tensor]) -> None:
        self.found += len(batch.quarantined)
        for sample in batch.quarantined:
            self.bad.append(quarantine_row(sample, run.completed))
        if run.completed % run.config.log.every_steps and run.completed < run.sizes.total_steps:
            return
        if run.engine.noise is not None:
            terms = {**terms, "noise_scale": run.engine.noise.take(terms["total"])}
        bad, source = run.loader.quarantine, run.loader.source_stats
        counts = [self.found, len(bad.met), bad.read, *source.values()]
        on_device = torch.tensor(counts, dtype=torch.float64, device=run.ctx.device) * run.ctx.world
        values = torch.cat([torch.stack([v.double() for v in terms.values()]), on_device])
        totals = run.ctx.cross.mean(values).tolist()  # of counts, the sum over ranks
        means, (found, met, read, *read_from) = totals[: len(terms)], totals[len(terms) :]
        names = [_METRIC_NAMES.get(name, f"loss/{name}") for name in terms]
        row = {"step": run.completed, **{n: v if isfinite(v) else None for n, v in zip(names, means, strict=True)}}
        row |= {f"source/{name}": round(value, 3) for name, value in zip(source, read_from, strict=True)}
        row |= self._pace(run)
        row |= {"lr": run.step.learning_rate(batch.step), "ema_momentum": run.step.ema_momentum(batch.step)}
        row["quarantined"] = self.known + round(found)
        run.folder.log(row)
        if self.board is not None:
            self.board.write(run.completed, row)
        self.last_row = row
        judge(round(met), round(read), run.sizes.samples, run.config.data.max_bad_share)
        self._restart_clock(run)

    def add(self, run: Run, values: Mapping[str, float | None], paused: float = 0.0) -> None:
        """More values of the present step, from another hook: a row of their own, which readers take as one with it.
        `paused` seconds do not count in the pace of the steps."""
        self.since += paused
        row = {"step": run.completed, **values}
        run.folder.log(row)
        if self.board is not None:
            self.board.write(run.completed, row)

    def end(self, run: Run) -> None:
        self.bad.flush()
        if self.board is not None:
            self.board.close()

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


def _memory(run: Run) -> float:
    """MiB: resident in this process, or on a GPU the most that torch has held there."""
    if run.ctx.device.type == "cuda":
        return torch.cuda.max_memory_allocated(run.ctx.device) / 2**20
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20
