"""The schedules of a run: what changes from step to step, as pure functions of the step, which counts from 0."""

import math
from collections.abc import Sequence


def learning_rate(
    step: int,
    total_steps: int,
    warmup_steps: int,
    peak: float,
    shape: str = "cosine",
    final: float = 0.0,
    drops: Sequence[float] = (),
) -> float:
    """The learning rate of a step: a linear warm-up that reaches `peak` at its last step, then one of three shapes.

        peak (step + 1)/warmup_steps                        while step < warmup_steps
        final + (peak − final)(1 + cos πs)/2                cosine; s is the share of the later steps that are done
        peak                                                constant
        peak / 10^(how many of `drops` are at most s)       step

    The first step after the warm-up has `peak` too, and a cosine to 0 gives no step 0.
    """
    if step < warmup_steps:
        return peak * (step + 1) / warmup_steps
    share = min((step - warmup_steps) / max(total_steps - warmup_steps, 1), 1.0)
    if shape == "constant":
        return peak
    if shape == "step":
        return peak / 10 ** sum(share >= drop for drop in drops)
    return half_cosine(share, peak, final)


def weight_decay(step: int, total_steps: int, start: float, end: float | None) -> float:
    """The weight decay of a step: from `start` towards `end` along half a cosine (DINO, arXiv 2104.14294).

    It stays at `start` when `end` is None.
    """
    return start if end is None else half_cosine(min(step / total_steps, 1.0), start, end)


def ema_momentum(step: int, total_steps: int, base: float, shape: str = "cosine") -> float:
    """The EMA momentum m(t) = 1 − (1 − base)(cos(πt/T) + 1)/2 of step t of T (BYOL, arXiv 2006.07733).

    It grows from `base` at t = 0 towards 1; with the shape constant it stays at `base`.
    """
    if shape == "constant":
        return base
    return 1 - (1 - base) * (math.cos(math.pi * min(step / total_steps, 1.0)) + 1) / 2


def heatmap_temperature(step: int, total_steps: int, start: float, end: float | None) -> float:
    """The temperature of the heatmaps at a step: from `start` at the first to `end` at the last along half a cosine.

    It stays at `start` when `end` is None.
    """
    return start if end is None else half_cosine(min(step / max(total_steps - 1, 1), 1.0), start, end)


def half_cosine(share: float, start: float, end: float) -> float:
    """Half a cosine from `start` at share 0 to `end` at share 1, flat at both."""
    return end + (start - end) * (1 + math.cos(math.pi * share)) / 2
