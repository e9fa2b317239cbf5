"""What a log step makes of the counts of all ranks."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from fra_dist.config import load_config
from fra_dist.data.loading.batch import BadSample
from fra_dist.distributed import RankContext
from fra_dist.errors import DataError
from fra_dist.train.hooks.metrics import Metrics
from fra_dist.train.run_dir.folder import RunFolder


class TwoAlike:
    """Two ranks that have the same numbers."""

    world = 2

    def sum(self, x: Tensor) -> Tensor:
        return 2 * x

    def mean(self, x: Tensor) -> Tensor:
        return x


def log_step(folder: Path, *words: str) -> dict[str, Any]:
    """Rank 1 has met one bad sample among 50; the row of the step."""
    bad = SimpleNamespace(met={7}, read=50)
    run: Any = SimpleNamespace(
        config=load_config(None, ["log.every_steps=1", "log.tensorboard=false", *words]),
        ctx=RankContext(1, 2, 1, 0, torch.device("cpu"), TwoAlike()),
        folder=RunFolder(folder, is_main=False),
        sizes=SimpleNamespace(total_steps=10, samples=1000, global_batch=8),
        loader=SimpleNamespace(quarantine=bad, source_stats={"hits": 3.0}, wait_seconds=0.0),
        engine=SimpleNamespace(noise=None),
        step=SimpleNamespace(learning_rate=lambda step: 0.1, ema_momentum=lambda step: 0.9),
        completed=0,
    )
    metrics = Metrics()
    metrics.begin(run)
    run.completed = 1
    found = (BadSample(7, "shard-0.tar", "a", "cut short"),)
    metrics.after_step(run, SimpleNamespace(step=0, quarantined=found), {"total": torch.tensor(2.5)})  # type: ignore[arg-type]
    return metrics.last_row


def test_losses_are_means_and_counts_are_sums_over_ranks(tmp_path: Path) -> None:
    row = log_step(tmp_path)
    assert (row["loss/total"], row["quarantined"], row["source/hits"]) == (2.5, 1, 6.0), "both met the same one"


def test_bad_samples_of_all_ranks_are_judged_together(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"^2 of 100 samples read cannot be used"):
        log_step(tmp_path, "data.max_bad_share=0")
