"""Collapse alarms: signs that a run learns nothing, read from the rows that are logged anyway.

A sign that `alarm.patience` log steps in a row show is reported once, with what to try, and again only after it was
over. How long each sign has lasted, and which were reported, is saved with the checkpoints, so that a resumed run
reports the same. All ranks read the same means and decide alike.
"""

import sys
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from operator import gt, lt
from typing import Any

from torch import Tensor

from fra_dist.config import AlarmConfig
from fra_dist.data.loading.batch import Batch
from fra_dist.errors import TrainingError
from fra_dist.train.hooks.metrics import Metrics
from fra_dist.train.trainer import Hook, Run

MEMORY, REPORTED = "alarms", "alarms_told"
"""Keys among the small values that a checkpoint holds.

MEMORY: for each sign, the log steps in a row that show it. REPORTED: the signs that were reported and are not over;
its key is the name in existing checkpoints.
"""
FEW = 4
"""Alarms about embeddings need this many images of a rank in a pass: fewer span few directions whatever they show."""


@dataclass(frozen=True)
class Sign:
    """A sign of collapse: a metric on the wrong side of a limit."""

    setting: str
    """The name of the sign, which is also the key of its limit in the section alarm."""
    metric: str
    """The metric in a row that shows the sign."""
    above: bool
    """Whether values above the limit are the wrong ones; if not, those below it are."""
    what: str
    """What is wrong, in words."""
    advice: str
    """What the user may try."""


_APART = "set model.decoder.centre_queries=true and model.decoder.query_offset=true in a new run"
SIGNS = (
    Sign(
        *("spread", "embedding/spread", False, "the embeddings of all images are alike"),
        "lower optim.lr, lengthen the warm-up, or raise optim.ema_momentum",
    ),
    Sign(
        *("rank", "embedding/rank", False, "the embeddings of all images lie along few directions"),
        "lower optim.lr, raise train.global_batch, or draw stronger views",
    ),
    Sign(
        *("dead_regions", "regions/dead", True, "regions hold next to no pixels"),
        "set model.revive_dead={}, raise loss.relation, or ask for fewer model.regions",
    ),
    Sign(
        *("overlap", "regions/overlap", True, "regions lie on one another"),
        f"{_APART}, or lower loss.student_temperature",
    ),
    Sign(*("query_cosine", "queries/cosine", True, "the queries of all regions are alike"), _APART),
)
"""All signs of collapse."""


@dataclass(frozen=True)
class Judgement:
    """What one row of metrics changes: which signs of collapse begin, last or end with it."""

    counts: dict[str, int]
    """For each sign, how many log steps in a row show it."""
    reported: frozenset[str]
    """The signs that were reported and are not over."""
    begun: list[tuple[Sign, float]]
    """The signs to report now, each with its value."""
    over: list[Sign]
    """The signs that end with this row."""


def count_row(
    counts: Mapping[str, int], reported: Collection[str], row: Mapping[str, Any], settings: AlarmConfig, regions: int
) -> Judgement:
    """Take one more row into account. A metric that is missing or not finite leaves its sign as it is.

    `regions` is the number of regions of the model. A sign is reported once its count reaches the patience or is above
    it, which a run that resumes with less patience may find at its first row, and never twice.
    """
    counts, reported, begun, over = dict(counts), set(reported), [], []
    used = row.get("regions/in_use")
    values = {**row, "regions/dead": None if used is None else 1 - used / regions}
    for sign in SIGNS:
        name = sign.setting
        limit, value = getattr(settings, name), values.get(sign.metric)
        if limit is None or value is None:
            continue
        wrong = (gt if sign.above else lt)(value, limit)
        counts[name] = counts.get(name, 0) + 1 if wrong else 0
        if counts[name] >= settings.patience and name not in reported:
            begun.append((sign, float(value)))
            reported.add(name)
        elif not wrong and name in reported:
            over.append(sign)
            reported.remove(name)
    return Judgement(counts, frozenset(reported), begun, over)


class Alarms(Hook):
    """Looks for signs of collapse in each row of `metrics`; fetches nothing from the device."""

    def __init__(self, metrics: Metrics) -> None:
        self.metrics = metrics

    def after_step(self, run: Run, batch: Batch, terms: Mapping[str, Tensor]) -> None:
        """Report the signs that begin or end with a new row.

        Raises TrainingError on all ranks, with what to try, when alarm.stop is set.
        """
        row, settings = self.metrics.last_row, run.config.alarm
        if row.get("step") != run.completed or run.completed <= settings.after_steps:
            return
        if run.sizes.micro_batch < FEW:
            row = {name: value for name, value in row.items() if not name.startswith("embedding/")}
        known = run.memory.get(MEMORY, {}), run.memory.get(REPORTED, ())
        found = count_row(*known, row, settings, run.config.model.regions)
        run.memory |= {MEMORY: found.counts, REPORTED: sorted(found.reported)}
        for sign in found.over:
            run.folder.note("alarm over", step=run.completed, sign=sign.setting)
        for sign, value in found.begun:
            self._tell(run, sign, value)

    def _tell(self, run: Run, sign: Sign, value: float) -> None:
        settings = run.config.alarm
        limit, side = getattr(settings, sign.setting), "above" if sign.above else "below"
        count = run.memory[MEMORY][sign.setting]
        text = (
            f"{sign.what}: {sign.metric} has been {side} alarm.{sign.setting}={limit:g} for {count} log steps "
            f"({value:.3g} now); {sign.advice}"
        )
        action = "stop" if settings.stop else "warn"
        run.folder.note("alarm", step=run.completed, sign=sign.setting, value=value, action=action, text=text)
        if settings.stop:
            raise TrainingError(f"stopped at step {run.completed} (alarm.stop=true): {text}")
        if run.ctx.is_main:
            print(f"warning: step {run.completed}: {text}", file=sys.stderr, flush=True)
