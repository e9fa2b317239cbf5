"""Which part of which weight a rank holds under ZeRO 1 and 2; only this module reads DeepSpeed's private attributes.

DeepSpeed lays the trained weights of a parameter group end to end in one flat tensor, pads it, and gives each rank an
equal share, with the optimiser's state for that share. This module translates between flat and whole tensors.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from fra_dist.distributed import RankContext, gather_to_main
from fra_dist.errors import CheckpointError, ConfigError
from fra_dist.train.optim.moved import ParameterPieces

PRIVATE = (
    "bit16_groups",  # the parameters of each group
    "bit16_groups_flat",  # all weights of a group, of which the parameters are views
    "single_partition_of_fp32_groups",  # this rank's share, which the optimiser moves
    "averaged_gradients",  # by group: this rank's gradients, between backward and step
    "refresh_fp32_params",  # copies weights into the shares
)
"""The private attributes of DeepSpeed's ZeRO optimiser that this module reads."""


@dataclass(frozen=True)
class _Place:
    """A parameter's name, its shape, and where it begins in its group's flat tensor."""

    name: str
    shape: torch.Size
    offset: int


class Partition:
    """The share of the weights and of the optimiser's state that this rank holds under ZeRO.

    Raises ConfigError when the installed DeepSpeed lacks one of the attributes that this needs.
    """

    def __init__(self, zero: Any, names: Mapping[Tensor, str], ctx: RankContext) -> None:
        missing = [name for name in PRIVATE if not hasattr(zero, name)]
        if missing:
            raise ConfigError(
                f"this version of DeepSpeed has no {type(zero).__name__}.{missing[0]}, which train.zero_stage needs: "
                "install the version that pyproject.toml names, or set train.zero_stage=0"
            )
        self.zero, self.ctx = zero, ctx
        self.shares: list[Tensor] = list(zero.single_partition_of_fp32_groups)
        self.places = [
            [_Place(names[p], p.shape, _offset(p, flat)) for p in group]
            for group, flat in zip(zero.bit16_groups, zero.bit16_groups_flat, strict=True)
        ]

    def gradients(self) -> list[Tensor]:
        """Return this rank's share of the averaged gradient.

        Valid between the last backward of a step and the update.
        """
        return [gradient for group in self.zero.averaged_gradients.values() for gradient in group]

    def pieces(self) -> dict[Tensor, ParameterPieces]:
        """Return what LARS must know of each flat tensor that it updates: {share: the pieces of parameters in it}."""
        found = {}
        for share, places in zip(self.shares, self.places, strict=True):
            pieces = [(start, length, number) for number, start, _, length in self._pieces(share, places)]
            index = torch.tensor([number for _, _, number in pieces], dtype=torch.int64, device=share.device)
            found[share] = ParameterPieces([p[:2] for p in pieces], index, len(places), self.ctx.cross.sum)
        return found

    def gather(self, optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
        """Return whole tensors of the optimiser's state by PARAMETER/STATE on rank 0; an empty dictionary elsewhere.

        A collective: every rank calls it.
        """
        tensors = {}
        for share, places in zip(self.shares, self.places, strict=True):
            for key, value in sorted(optimizer.state[share].items()):
                if value.shape != share.shape:  # AdamW's count of steps, the same for all
                    tensors.update({f"{place.name}/{key}": value.clone() for place in places})
                    continue
                flat = gather_to_main(value)
                if flat is not None:
                    tensors.update({f"{p.name}/{key}": _narrow(flat, p).clone().view(p.shape) for p in places})
        return tensors if self.ctx.is_main else {}

    def scatter(self, optimizer: torch.optim.Optimizer, saved: Mapping[str, Tensor]) -> None:
        """Copy this rank's share of whole tensors of state into the optimiser.

        Raises CheckpointError on an unknown name.
        """
        known = {place.name for places in self.places for place in places}
        kinds: dict[str, dict[str, Tensor]] = {}
        for key, value in saved.items():
            name, _, kind = key.rpartition("/")
            if name not in known:
                raise CheckpointError(f"the optimiser state of {name} has no parameter in this model")
            kinds.setdefault(kind, {})[name] = value
        for share, places in zip(self.shares, self.places, strict=True):
            for kind, wholes in kinds.items():
                self._fill(optimizer.state[share], kind, wholes, share, places)

    def take_up_weights(self) -> None:
        """Copy the model's weights into the shares, after they were written from outside."""
        self.zero.refresh_fp32_params()

    def _fill(
        self, state: dict[str, Any], kind: str, wholes: Mapping[str, Tensor], share: Tensor, places: list[_Place]
    ) -> None:
        present = [place for place in places if place.name in wholes]
        if present and wholes[present[0].name].shape != present[0].shape:
            state[kind] = wholes[present[0].name].to(share.device, copy=True)
            return
        flat = state.setdefault(kind, torch.zeros_like(share, requires_grad=False))
        for number, start, begin, length in self._pieces(share, places):
            if places[number].name in wholes:
                flat.narrow(0, start, length).copy_(wholes[places[number].name].flatten().narrow(0, begin, length))

    def _pieces(self, share: Tensor, places: list[_Place]) -> list[tuple[int, int, int, int]]:
        """(number of the parameter, start in the share, start in the parameter, length) of what this rank holds."""
        first = self.ctx.rank * share.numel()
        found = []
        for number, place in enumerate(places):
            low = max(place.offset, first)
            high = min(place.offset + place.shape.numel(), first + share.numel())
            if low < high:
                found.append((number, low - first, low - place.offset, high - low))
        return found


def _offset(parameter: Tensor, flat: Tensor) -> int:
    return (parameter.data_ptr() - flat.data_ptr()) // flat.element_size()


def _narrow(flat: Tensor, place: _Place) -> Tensor:
    return flat.narrow(0, place.offset, place.shape.numel())
