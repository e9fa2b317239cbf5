"""What every task is given and hands back."""

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
from fra_dist.eval.features.prepared_faces import Prepared
from fra_dist.eval.scores.intervals import Score
from fra_dist.eval.settings import Settings

Places = NDArray[np.int64]
Outputs = NDArray[np.float64]
Answer = Callable[[Places], Outputs]
"""Outputs for the faces at some places of the prepared set."""


@dataclass(frozen=True)
class Job:
    encoder: Encoder
    prepared: Prepared
    settings: Settings
    cache: Cache

    @cached_property
    def features(self) -> Features:
        return extract(self.encoder, self.prepared, self.cache)

    def channels(self) -> tuple[int, int]:
        """Channels and side of the backbone's map."""
        maps = self.encoder.maps(self.prepared.photos[:1])
        return maps.shape[1], maps.shape[2]


@dataclass(frozen=True)
class TaskResult:
    task: str
    protocol: Mapping[str, Any]
    scores: Mapping[str, Score]
    columns: tuple[str, ...]
    """Scores for the Markdown row."""
    details: Mapping[str, Any] = field(default_factory=dict)
    """Plain values for the JSON: confusion matrices, scores of each attribute, curves."""
    plots: Mapping[str, Callable[[Path], None]] = field(default_factory=dict)
    """File name -> what draws it."""


def title(mode: str, percent: float, score: str) -> str:
    """Name of a score: `linear/10%/accuracy`."""
    return f"{mode}/{percent:g}%/{score}"


def draws_of(settings: Settings, percent: float) -> range:
    return range(settings.draws if percent < 100 else 1)


def seeded(seed: int, *numbers: float) -> None:
    """Seed torch for one head's start, whatever ran before."""
    torch.manual_seed(int(np.random.SeedSequence([seed, *(round(n * 1000) for n in numbers)]).generate_state(1)[0]))
