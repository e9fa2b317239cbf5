"""The metrics of a run: read from the device at log steps, averaged over ranks, and written as rows."""

import os
import time
from collections.abc import Mapping, Sequence
from math import isfinite
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from fra_dist import distributed
from fra_dist.data.loading.batch import Batch
from fra_dist.data.loading.quarantine import FILE as QUARANTINE
from fra_dist.data.loading.quarantine import check_bad_share, quarantine_row, read_quarantine
from fra_dist.train.hooks.flop import flop_of_image, speed_in_flop, wants_flop
from fra_dist.train.run_dir.row_file import RowFile
from fra_dist.train.sinks.opening import open_sinks
from fra_dist.train.sinks.sink import Guarded
from fra_dist.train.trainer import Hook, Run


class Metrics(Hook):
    """Writes a row every `log.every_steps`: fetches the terms once and passes the row to progress and to the sinks."""

    patience = 0.0
    """Only the general time-out counts here, because on a GPU a collective that is stuck shows at this hook first."""

    def begin(self, run: Run) -> None:
        """Open what takes the rows beside metrics.jsonl, and read which samples are known to be bad."""
        self.bad = RowFile(run.folder.path / QUARANTINE)
        self.last_row: dict[str, Any] = {}
        opened: list[Guarded] = []

        def open_them() -> None:
            if run.ctx.is_main:
                opened.extend(open_sinks(run.config, run.folder, run.completed, run.sizes.total_steps))

        distributed.from_main(open_them)
        self.sinks = opened
        self.flop = flop_of_image(run) if wants_flop(run) else None
        self._restart(run)

    def after_step(self, run: Run, batch: Batch, terms: Mapping[str, Tensor]) -> None:
        """Record the bad samples of the batch and, at a log step, write the row.

        Every rank calls it: the row takes one collective and one host synchronisation. Raises DataError when more
        samples are bad than data.max_bad_share allows.
        """
        for sample in batch.quarantined:
            self.found.add(sample.id)
            self.bad.append(quarantine_row(sample, run.completed))
        self.bad.flush()
        if run.completed % run.config.log.every_steps and run.completed < run.sizes.total_steps:
            return
        if terms and run.engine.noise is not None:
            terms = {**terms, "gradient/noise_scale": run.engine.noise.take(terms["total"])}
        bad, source = run.loader.quarantine, run.loader.source_stats
        means, counts = _fetch(run, terms, [len(self.found), len(bad.met), bad.read, *source.values()])
        found, met, read, *read_from = counts
        row = {"step": run.completed, **means}
        row |= {f"source/{name}": round(value, 3) for name, value in zip(source, read_from, strict=True)}
        row |= self._pace(run)
        row |= {"lr": run.step.learning_rate(batch.step), "ema_momentum": run.step.ema_momentum(batch.step)}
        row["quarantined"] = self._known_bad(some_new=found > 0)
        run.folder.log(row)
        self._pass_on(run.completed, row)
        self.last_row = row
        check_bad_share(round(met), round(read), run.sizes.samples, run.config.data.max_bad_share)
        self._restart_clock(run)

    def went_back(self, run: Run) -> None:
        """Forget what was recorded about steps that a rollback has undone, and time the steps from here."""
        self.bad.forget(lambda row: row["step"] > run.completed)
        self.last_row = {}
        self._restart(run)

    def add(self, run: Run, values: Mapping[str, float | None], paused: float = 0.0) -> None:
        """Write more values of the present step, for another hook, as a row of their own: readers merge rows of a step.

        `paused` seconds do not count in the throughput of the steps.
        """
        self.since += paused
        row = {"step": run.completed, **values}
        run.folder.log(row)
        self._pass_on(run.completed, row)

    def end(self, run: Run) -> None:
        """Write what is still in memory and close the sinks."""
        self.bad.finish()
        for sink in self.sinks:
            sink.close()

    def _pass_on(self, step: int, row: Mapping[str, float | None]) -> None:
        for sink in self.sinks:
            sink.write(step, row)

    def _restart(self, run: Run) -> None:
        """Begin with the bad samples that the run folder knows of."""
        self.found: set[int] = set()
        self.known = set(distributed.from_main(lambda: [sample.id for sample in read_quarantine(run.folder.path)]))
        self._restart_clock(run)

    def _known_bad(self, some_new: bool) -> int:
        """Return how many samples the run knows to be bad. One that several ranks have met counts once.

        A collective when `some_new`, which is the same on all ranks: one of them has met some since the last row.
        """
        if some_new:
            self.known.update(*distributed.from_all(sorted(self.found)))
            self.found.clear()
        return len(self.known)

    def _restart_clock(self, run: Run) -> None:
        self.since, self.since_step, self.since_wait = time.perf_counter(), run.completed, run.loader.wait_seconds

    def _pace(self, run: Run) -> dict[str, float]:
        seconds = max(time.perf_counter() - self.since, 1e-9)
        steps = run.completed - self.since_step
        left = (run.sizes.total_steps - run.completed) * seconds / steps
        wait = (run.loader.wait_seconds - self.since_wait) / seconds
        pace = {"images_per_second": steps * run.sizes.global_batch / seconds, "data_wait": wait, "seconds_left": left}
        pace["memory_mib"] = _memory(run)
        if self.flop is not None:
            pace |= speed_in_flop(run, self.flop, pace["images_per_second"])
        return {name: float(f"{value:.5g}") for name, value in pace.items()}


def _fetch(run: Run, terms: Mapping[str, Tensor], counts: Sequence[float]) -> tuple[dict[str, Any], list[float]]:
    """Fetch the means of the terms over the ranks, by their names in a row, and the sums of the counts.

    It takes one collective and one host synchronisation. A value that is not finite is None, and a step that was left
    out has only `step/applied` = 0.
    """
    on_device = torch.tensor(counts, dtype=torch.float64, device=run.ctx.device) * run.ctx.world
    values = torch.stack([*(value.double() for value in terms.values()), *on_device])
    # for counts this is the sum over ranks: they were multiplied by the number of ranks
    totals = run.ctx.cross.mean(values).tolist()
    names = [name if "/" in name else f"loss/{name}" for name in terms]
    means = {name: value if isfinite(value) else None for name, value in zip(names, totals, strict=False)}
    return means or {"step/applied": 0.0}, totals[len(terms) :]


def _memory(run: Run) -> float:
    """Return MiB that are resident in this process, or on a GPU the most that torch has held there."""
    if run.ctx.device.type == "cuda":
        return torch.cuda.max_memory_allocated(run.ctx.device) / 2**20
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20
