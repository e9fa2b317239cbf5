"""The EMA by which the target network follows the online network."""

from collections.abc import Sequence

import torch
from torch import Tensor

from fra_dist.kernels import lars_ema
from fra_dist.models.fra import FRA


class Following:
    """The target's update ξ ← m ξ + (1 − m) θ of a step, which an optimiser may do together with its own.

    Call `begin` before the optimiser's step. The optimiser looks up the copies of what it updates in `target_of` and
    reports with `done` what it has moved; `finish` does the rest.
    """

    def __init__(self, model: FRA) -> None:
        self.model, self.momentum = model, 1.0
        self.target_of: dict[Tensor, Tensor] = dict(
            zip(model.online.parameters(), model.target.parameters(), strict=True)
        )
        self._done: set[Tensor] = set()

    def begin(self, momentum: float) -> None:
        """Begin the update of one step, with the EMA momentum m (0 to 1) of that step."""
        self.momentum = momentum
        self._done.clear()

    def done(self, parameters: Sequence[Tensor]) -> None:
        """Record that the copies of these parameters have been updated."""
        self._done.update(parameters)

    def finish(self, applied: Tensor) -> None:
        """Update the copies that the optimiser has not; `applied` as in `update_target`."""
        rest = {p: target for p, target in self.target_of.items() if p not in self._done}
        _follow(list(rest.values()), list(rest), self.momentum, applied)


def update_target(model: FRA, momentum: float, applied: Tensor | None = None) -> None:
    """Update ξ ← m ξ + (1 − m) θ for every parameter of the target, after the optimiser's step.

    Only parameters: batch norm statistics and prototypes are each network's own. Weights are fp32 (in bf16 a step of 1
    − m = 0.004 is lost to rounding). One multi-tensor call without a host synchronisation. Where `applied`, a 0-dim
    tensor, holds 0, the target stays as it is.
    """
    _follow(list(model.target.parameters()), list(model.online.parameters()), momentum, applied)


@torch.no_grad()
def _follow(targets: list[Tensor], online: list[Tensor], momentum: float, applied: Tensor | None) -> None:
    if not targets:
        return
    targets, online = [t.data for t in targets], [p.data for p in online]
    if lars_ema.takes(targets, online, targets, ()):
        lars_ema.follow(targets, online, momentum, None if applied is None else 1 - applied)
    elif applied is None:
        torch._foreach_lerp_(targets, online, 1 - momentum)
    else:
        weight = applied.to(targets[0].dtype) * (1 - momentum)
        torch._foreach_lerp_(targets, online, [weight] * len(targets))
