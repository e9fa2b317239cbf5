"""Tensors into files: safetensors, .pth and .npz. `layouts.reading` reads them back."""

from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from fra_dist.errors import CheckpointError
from fra_dist.files import whole_file
from fra_dist.layouts.reading import FACTS, first_line
from fra_dist.layouts.reading import read_tensors as read_tensors

SUFFIXES = (".safetensors", ".pth", ".pt", ".npz")


def write_weight_file(
    path: str | Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None
) -> None:
    """Write tensors to a file whose suffix chooses the format, under a temporary name first, then by a rename.

    metadata: text by key, which `layouts.reading.read_file` gives back. In .pth and .pt it is an attribute of the
    dictionary of tensors, so that others see the tensors alone; .npz has no place for it. Raises CheckpointError when
    the suffix is unknown or the place cannot be written.
    """
    path = Path(path)
    _check_suffix(path)
    whole = {key: value.detach().cpu().contiguous() for key, value in tensors.items()}
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with whole_file(path) as partial:
            if path.suffix == ".safetensors":
                save_file(whole, partial, metadata=dict(metadata or {}))
            elif path.suffix == ".npz":
                with partial.open("wb") as file:
                    np.savez_compressed(file, **{key: value.numpy() for key, value in whole.items()})  # type: ignore[arg-type]
            else:
                torch.save(_with_facts(whole, metadata or {}), partial)
    except (OSError, TypeError, RuntimeError, SafetensorError) as error:
        raise CheckpointError(f"cannot write {path}: {first_line(error)}") from None


def _with_facts(tensors: Mapping[str, Tensor], facts: Mapping[str, str]) -> OrderedDict[str, Tensor]:
    """The tensors as a state dict that carries the facts; PyTorch's own carry the versions of modules in this way."""
    found = OrderedDict(tensors)
    if facts:
        setattr(found, FACTS, dict(facts))
    return found


def _check_suffix(path: Path) -> None:
    if path.suffix not in SUFFIXES:
        raise CheckpointError(f"{path}: the name must end in {', '.join(SUFFIXES)}")
