"""What changes from step to step, as pure functions of the step. Steps count from 0."""

import math


def learning_rate(step: int, total_steps: int, warmup_steps: int, peak: float) -> float:
    """Linear warm-up that reaches `peak` at the last warm-up step, then half a cosine that would reach 0 at the end.

        peak (step + 1)/warmup_steps                                            while step < warmup_steps
        peak (1 + cos(π (step − warmup_steps)/(total_steps − warmup_steps)))/2   after

    The first step after the warm-up has `peak` too, and no step has 0.
    """
    if step < warmup_steps:
        return peak * (step + 1) / warmup_steps
    share = (step - warmup_steps) / max(total_steps - warmup_steps, 1)
    return peak * (1 + math.cos(math.pi * min(share, 1.0))) / 2


def ema_momentum(step: int, total_steps: int, base: float) -> float:
    """m(t) = 1 − (1 − base)(cos(πt/T) + 1)/2, from `base` at t = 0 towards 1 (BYOL, arXiv 2006.07733)."""
    return 1 - (1 - base) * (math.cos(math.pi * min(step / total_steps, 1.0)) + 1) / 2
