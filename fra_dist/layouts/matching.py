"""Weights put into a backbone: what is taken, what stays as it was, and what the file holds besides."""

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor, nn

from fra_dist.errors import CheckpointError
from fra_dist.layouts.timm_names import in_backbone
from fra_dist.layouts.weights import Weights
from fra_dist.models.pyramid import PATH
from fra_dist.models.timm_backbone import TimmBackbone

COUNTER = "num_batches_tracked"
_SHOWN = 4


@dataclass(frozen=True)
class Match:
    """The tensors of a file that a module takes, under the module's names."""

    taken: dict[str, Tensor]
    """Name in the module -> tensor of the file, of the same shape."""
    missing: tuple[str, ...]
    """Tensors of the module that the file does not have; counters of batch norm are not among them."""
    unused: tuple[str, ...]
    """Tensors of the file that the module has no place for."""

    def told(self) -> str:
        """What matched and what did not, in one line."""
        parts = [f"{len(self.taken)} tensors taken"]
        parts += [f"{len(self.missing)} not in the file and left as drawn ({_some(self.missing)})"] * bool(self.missing)
        parts += [f"{len(self.unused)} of the file not used ({_some(self.unused)})"] * bool(self.unused)
        return "; ".join(parts)


def match_backbone(weights: Weights, backbone: nn.Module, name: str) -> Match:
    """The tensors that a backbone called `name` takes from weights of the kind `backbone` or `unknown`.

    A top-down path that the file lacks may stay as it is. Raises CheckpointError when any other part of the backbone is
    not in the file, or has another shape there.
    """
    own = backbone.state_dict()
    if isinstance(backbone, TimmBackbone):
        names = in_backbone(own, weights.state)
    else:
        names = {key: key for key in own if key in weights.state}
    taken = {mine: weights.state[theirs] for mine, theirs in names.items()}
    missing = tuple(key for key in own if key not in taken and not key.endswith(COUNTER))
    refuse_differences(weights, own, taken, [key for key in missing if not key.startswith(PATH)], name)
    if not isinstance(backbone, TimmBackbone):
        _refuse_more(weights, own, name)
    used = set(names.values())
    return Match(taken, missing, (*(key for key in weights.state if key not in used), *weights.left_out))


def _refuse_more(weights: Weights, own: Mapping[str, Tensor], name: str) -> None:
    """A ResNet with more in its blocks, such as squeeze-and-excitation, computes something else."""
    more = [key for key in weights.state if key not in own and not key.startswith(PATH)]
    if more and weights.kind == "backbone":
        raise CheckpointError(
            f"{weights.path} ({weights.layout}) is of another network than the backbone {name}: {more[0]} has no place "
            f"in it ({len(more)} such tensors)"
        )


def match_whole(weights: Weights, own: Mapping[str, Tensor]) -> Match:
    """The tensors that a state dict `own` takes by name and shape, whatever else differs."""
    taken = {k: v for k, v in weights.state.items() if k in own and own[k].shape == v.shape}
    missing = tuple(key for key in own if key not in taken and not key.endswith(COUNTER))
    return Match(taken, missing, (*(key for key in weights.state if key not in taken), *weights.left_out))


def refuse_differences(
    weights: Weights, own: Mapping[str, Tensor], taken: Mapping[str, Tensor], missing: list[str], name: str
) -> None:
    """Raise CheckpointError when something is missing or has another shape."""
    shapes = [key for key, value in taken.items() if own[key].shape != value.shape]
    if not missing and not shapes:
        return
    if shapes:
        key = shapes[0]
        what = f"{key} is {tuple(taken[key].shape)} in the file, not {tuple(own[key].shape)}"
    else:
        what = f"{missing[0]} is missing"
    told = f", a {weights.architecture}" if weights.architecture not in (None, name) else ""
    raise CheckpointError(
        f"{weights.path} ({weights.layout}{told}) does not fit the backbone {name}: {what} "
        f"({len(missing) + len(shapes)} such differences)"
    )


def _some(names: tuple[str, ...]) -> str:
    return ", ".join(names[:_SHOWN]) + (", ..." if len(names) > _SHOWN else "")
