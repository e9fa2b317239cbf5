"""The target network follows the online network."""

import torch
from torch import Tensor

from fra_dist.models.fra import FRA


@torch.no_grad()
def update_target(model: FRA, momentum: float, applied: Tensor | None = None) -> None:
    """ξ ← m ξ + (1 − m) θ for every parameter, after the optimiser's step.

    Parameters only: batch norm statistics and prototypes are each network's own. Weights are fp32 (in bf16 a step of
    1 − m = 0.004 is lost to rounding). One multi-tensor call, no wait for the device. Where `applied`, a 0-dim tensor,
    holds 0, the target stays as it is.
    """
    target = [p.data for p in model.target.parameters()]
    online = [p.data for p in model.online.parameters()]
    if applied is None:
        torch._foreach_lerp_(target, online, 1 - momentum)
        return
    weight = applied.to(target[0].dtype) * (1 - momentum)
    torch._foreach_lerp_(target, online, [weight] * len(target))
