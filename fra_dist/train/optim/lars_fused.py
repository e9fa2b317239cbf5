"""A LARS step of all groups, and of the EMA copies, by the kernels of `kernels.lars_ema`."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from fra_dist.kernels import lars_ema
from fra_dist.train.optim.moved import Known, LayerwiseOptimizer, ParameterPieces, gradients_of

_SHARED = ("lr", "momentum", "trust")
"""Settings of which the kernels take one value for all groups."""


@dataclass(frozen=True)
class _Part:
    """What moves with a length of its own: a parameter, or a piece of a flat one."""

    parameter: Tensor
    gradient: Tensor
    velocity: Tensor
    group: dict[str, Any]

    def piece(self, start: int, length: int) -> "_Part":
        whole = (self.parameter, self.gradient, self.velocity)
        parameter, gradient, velocity = (tensor.narrow(0, start, length) for tensor in whole)
        return _Part(parameter, gradient, velocity, self.group)


@dataclass(frozen=True)
class _Owner:
    """A parameter, its parts, and how to measure them if they are pieces."""

    parts: list[_Part]
    pieces: ParameterPieces | None


def move_fused(optimizer: LayerwiseOptimizer) -> bool:
    """Do the optimiser's step with fused kernels; False, with nothing done, where the kernels do not take the tensors.

    Every rank that holds pieces of flat parameters takes part in as many collectives as in the plain step, whichever
    path it takes.
    """
    moved = list(gradients_of(optimizer))
    groups = [group for _, group in moved]
    if not moved or any(group[name] != groups[0][name] for group in groups for name in _SHARED):
        return False
    first = moved[0][0]
    if not lars_ema.takes([first], [g for g in [first.grad] if g is not None], [first], ()):
        return False  # decided on one tensor, before everything is listed
    followers = optimizer.followers
    target_of = {} if followers is None else followers.target_of
    moved.sort(key=lambda pair: pair[0] not in target_of)  # the kernels take targets for the first parameters only
    owners = [_owner(optimizer, p, group) for p, group in moved]
    parts = [part for owner in owners for part in owner.parts]
    weights, gradients = [part.parameter for part in parts], [part.gradient for part in parts]
    velocities = [part.velocity for part in parts]
    followed = [p for p, _ in moved if p in target_of]
    targets = [target_of[p] for p in followed]
    if not parts or not _taken(optimizer, weights, gradients, velocities, targets):
        return False
    lars_ema.lars_ema(
        weights,
        gradients,
        velocities,
        weight_decay=[part.group["weight_decay"] for part in parts],
        adapt=[part.group["adapt"] for part in parts],
        **{name: groups[0][name] for name in _SHARED},
        targets=targets,
        target_momentum=1.0 if followers is None else followers.momentum,
        squares=_squares(owners, weights, gradients) if optimizer.pieces else None,
        found_inf=optimizer.found_inf,
        taken=True,
    )
    if followers is not None:
        followers.done(followed)
    return True


def _taken(
    optimizer: LayerwiseOptimizer, weights: list[Tensor], gradients: list[Tensor], velocities: list[Tensor],
    targets: list[Tensor],
) -> bool:  # fmt: skip
    """Whether the kernels take the lists. Tensors that they took in the last step are not looked at again, but for the
    gradients, of which each step has others.
    """
    lists = [*weights, *velocities, *targets]
    if optimizer.known.holds(lists) and len({gradient.dtype for gradient in gradients}) == 1:
        return True
    if not lars_ema.takes(weights, gradients, velocities, targets):
        return False
    optimizer.known = Known(lists)
    return True


def _owner(optimizer: LayerwiseOptimizer, p: Tensor, group: dict[str, Any]) -> _Owner:
    pieces = optimizer.pieces.get(p) if group["adapt"] else None
    assert p.grad is not None
    whole = _Part(p, p.grad, optimizer.velocity(p), group)
    return _Owner([whole] if pieces is None else [whole.piece(*span) for span in pieces.spans], pieces)


def _squares(owners: list[_Owner], parameters: list[Tensor], gradients: list[Tensor]) -> Tensor:
    """(2, n) Σ p² and Σ g² of each part; of the whole parameter over all ranks where the part is a piece of one."""
    own = lars_ema.squares(parameters, gradients)
    columns = []
    for owner, part in zip(owners, own.split([len(owner.parts) for owner in owners], dim=1), strict=True):
        if owner.pieces is None:
            columns.append(part)
            continue
        sums = torch.zeros(2, owner.pieces.parameters, dtype=part.dtype, device=part.device)
        columns.append(owner.pieces.sum(sums.index_add_(1, owner.pieces.index, part))[:, owner.pieces.index])
    return torch.cat(columns, dim=1)
