"""What every task is given and returns: the job, and the task's result."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from fra_dist.eval.features.encoder import Encoder, Features, extract
from fra_dist.eval.features.feature_cache import Cache
from fra_dist.eval.features.prepared_faces import PreparedFaces
from fra_dist.eval.scores.intervals import Score
from fra_dist.eval.settings import Settings

Places = NDArray[np.int64]
Outputs = NDArray[np.float64]
Answer = Callable[[Places], Outputs]
"""Gives the outputs for the faces at some places of the prepared set."""


@dataclass(frozen=True)
class TaskInput:
    """A task's input: a network, the faces of a data set, and the settings."""

    encoder: Encoder
    """The network under test."""
    prepared: PreparedFaces
    """The faces and their labels."""
    settings: Settings
    """Settings of the task."""
    cache: Cache
    """Where features are kept."""

    @cached_property
    def features(self) -> Features:
        """The network's features of all faces, computed when first asked for."""
        return extract(self.encoder, self.prepared, self.cache)

    def channels(self) -> tuple[int, int]:
        """Channels of the backbone's map, and its side in cells."""
        maps = self.encoder.maps(self.prepared.photos[:1])
        return maps.shape[1], maps.shape[2]


@dataclass(frozen=True)
class TaskResult:
    """What an evaluation task returns: its scores with intervals, its protocol, and details for reports."""

    task: str
    """Name of the task."""
    protocol: Mapping[str, Any]
    """How it was measured, as plain values."""
    scores: Mapping[str, Score]
    """The scores by name."""
    columns: tuple[str, ...]
    """Names of the scores for the Markdown row."""
    details: Mapping[str, Any] = field(default_factory=dict)
    """Plain values for the JSON: confusion matrices, scores of each attribute, curves."""
    plots: Mapping[str, Callable[[Path], None]] = field(default_factory=dict)
    """For each file name, the function that draws it."""
    grid: bool = False
    """Whether scores are named ROW/COLUMN and shown as a table, with one row for each way of getting regions."""


def title(mode: str, percent: float, score: str) -> str:
    """Name of a score, such as `linear/10%/accuracy`."""
    return f"{mode}/{percent:g}%/{score}"


def draws_of(settings: Settings, percent: float) -> range:
    """Numbers of the draws of labels at a percentage: only one at 100 %."""
    return range(settings.draws if percent < 100 else 1)


def seeded(seed: int, *numbers: float) -> None:
    """Seed torch for the start of one head, whatever ran before."""
    torch.manual_seed(int(np.random.SeedSequence([seed, *(round(n * 1000) for n in numbers)]).generate_state(1)[0]))
