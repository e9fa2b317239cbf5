"""Collapse alarms: signs that a run learns nothing, read from the rows that are logged anyway.

A sign that `alarm.patience` log steps in a row show is told once, with what to try, and again only after it was over.
How long each has lasted, and which were told, is saved with the checkpoints, so that a resumed run tells the same. All
ranks read the same means and decide alike.
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

MEMORY, TOLD = "alarms", "alarms_told"
"""Keys among the small values that a checkpoint holds: log steps in a row by sign, and the signs of open episodes."""
FEW = 4
"""Images of a rank in a pass, below which they cannot spread far: two lie along one direction whatever they show."""


@dataclass(frozen=True)
class Sign:
    setting: str
    """Of AlarmConfig: the limit."""
    metric: str
    above: bool
    """Whether values above the limit are the wrong ones; else those below."""
    what: str
    advice: str


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


@dataclass(frozen=True)
class Judgement:
    """What a row has changed.

    counts: log steps in a row that show each sign. told: signs whose episode has been told and is not over.
    begun: signs to be told now, with their value. over: signs whose episode ends with this row.
    """

    counts: dict[str, int]
    told: frozenset[str]
    begun: list[tuple[Sign, float]]
    over: list[Sign]


def judge(
    counts: Mapping[str, int], told: Collection[str], row: Mapping[str, Any], settings: AlarmConfig, regions: int
) -> Judgement:
    """Take one more row into account. A value that is missing or not finite leaves its sign as it is.

    An episode is told once its count is at the patience or above it, which a run that goes on with less patience may
    find at its first row, and never twice.
    """
    counts, told, begun, over = dict(counts), set(told), [], []
    used = row.get("regions/in_use")
    values = {**row, "regions/dead": None if used is None else 1 - used / regions}
    for sign in SIGNS:
        name = sign.setting
        limit, value = getattr(settings, name), values.get(sign.metric)
        if limit is None or value is None:
            continue
        wrong = (gt if sign.above else lt)(value, limit)
        counts[name] = counts.get(name, 0) + 1 if wrong else 0
        if counts[name] >= settings.patience and name not in told:
            begun.append((sign, float(value)))
            told.add(name)
        elif not wrong and name in told:
            over.append(sign)
            told.remove(name)
    return Judgement(counts, frozenset(told), begun, over)


class Alarms(Hook):
    """Reads each row of `metrics`; nothing is fetched from the device for it."""

    def __init__(self, metrics: Metrics) -> None:
        self.metrics = metrics

    def after_step(self, run: Run, batch: Batch, terms: Mapping[str, Tensor]) -> None:
        """Raises TrainingError on all ranks, with what to try, when the configuration asks for it."""
        row, settings = self.metrics.last_row, run.config.alarm
        if row.get("step") != run.completed or run.completed <= settings.after_steps:
            return
        if run.sizes.micro_batch < FEW:
            row = {name: value for name, value in row.items() if not name.startswith("embedding/")}
        known = run.memory.get(MEMORY, {}), run.memory.get(TOLD, ())
        found = judge(*known, row, settings, run.config.model.regions)
        run.memory |= {MEMORY: found.counts, TOLD: sorted(found.told)}
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
