"""From a checkpoint back to a model and an optimiser; `reading` finds and verifies the checkpoint."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from fra_dist.config import Config
from fra_dist.errors import CheckpointError
from fra_dist.models.fra import FRA
from fra_dist.train.checkpoints.reading import Checkpoint, find_checkpoint


def load_model(path: str | Path) -> tuple[FRA, Config, dict[str, Any]]:
    """Load the model of a checkpoint or of a run's newest checkpoint.

    Returns FRA in inference mode on the CPU, its configuration, and {"path", "step", "versions"} of the checkpoint.
    Raises CheckpointError when there is none or it cannot be used.
    """
    found = find_checkpoint(path)
    model = FRA(found.config.model)
    restore_model(model, found)
    return model.eval(), found.config, {"path": str(found.path), "step": found.step, "versions": found.versions}


def restore_model(model: FRA, checkpoint: Checkpoint) -> None:
    """Copy the weights of a checkpoint into `model`.

    Raises CheckpointError when they are those of another architecture.
    """
    saved, own = checkpoint.model(), model.state_dict()
    missing, extra = sorted(own.keys() - saved.keys()), sorted(saved.keys() - own.keys())
    shapes = [k for k in own.keys() & saved.keys() if own[k].shape != saved[k].shape]
    if missing or extra or shapes:
        first = f"{shapes[0]} is {tuple(saved[shapes[0]].shape)}, not {tuple(own[shapes[0]].shape)}" if shapes else ""
        first = first or (f"{missing[0]} is missing" if missing else f"{extra[0]} is unknown")
        count = len(missing) + len(extra) + len(shapes)
        raise CheckpointError(
            f"checkpoint {checkpoint.path} is of another architecture: {first} ({count} such differences)"
        )
    model.load_state_dict(saved)


def optimizer_tensors(optimizer: torch.optim.Optimizer, names: Mapping[Tensor, str]) -> dict[str, Tensor]:
    """Return the tensors of the optimiser's state by PARAMETER/STATE; `names` gives the name of each parameter."""
    tensors = {}
    for parameter, values in optimizer.state.items():
        tensors.update(
            {f"{names[parameter]}/{key}": value for key, value in values.items() if isinstance(value, Tensor)}
        )
    return tensors


def restore_optimizer(
    optimizer: torch.optim.Optimizer, names: Mapping[Tensor, str], saved: Mapping[str, Tensor]
) -> None:
    """Put state that `optimizer_tensors` gave back into the optimiser. Raises CheckpointError on an unknown name."""
    by_name = {names[p]: p for group in optimizer.param_groups for p in group["params"]}
    for key, value in saved.items():
        name, _, kind = key.rpartition("/")
        if name not in by_name:
            raise CheckpointError(f"the optimiser state of {name} has no parameter in this model")
        parameter = by_name[name]
        own = value.to(parameter.device, copy=True)  # the caller may use its own again
        if own.shape == parameter.shape:  # kernels need the parameter's layout
            own = torch.empty_like(parameter, dtype=own.dtype, requires_grad=False).copy_(own)
        optimizer.state[parameter][kind] = own
