"""Tensors in and out of files: safetensors, .pth (weights only) and .npz (no pickle). Reading never runs code."""

import pickle
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from fra_dist.errors import CheckpointError
from fra_dist.files import whole_file

SUFFIXES = (".safetensors", ".pth", ".pt", ".npz")


def read_tensors(path: str | Path, prefix: str = "") -> dict[str, Tensor]:
    """The tensors of a file whose names start with `prefix`, under names without it.

    A .pth may hold a dictionary of tensors, or one under `model` or `state_dict`. Raises CheckpointError when the file
    cannot be read or has no such tensors.
    """
    path = Path(path)
    _check_suffix(path)
    if not path.is_file():
        raise CheckpointError(f"no weights at {path}: no such file")
    try:
        found = _read(path)
    except (OSError, ValueError, KeyError, EOFError, RuntimeError, SafetensorError, zipfile.BadZipFile) as error:
        raise CheckpointError(f"{path} cannot be read as {path.suffix[1:]}: {_first_line(error)}") from None
    except pickle.UnpicklingError as error:
        raise CheckpointError(f"{path} holds more than tensors, or is damaged: {_first_line(error)}") from None
    tensors = {key.removeprefix(prefix): value for key, value in found.items() if key.startswith(prefix)}
    if not tensors:
        raise CheckpointError(f"{path} holds no tensors whose names start with {prefix!r}: {_some(found)}")
    return tensors


def write_weight_file(
    path: str | Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None
) -> None:
    """Write tensors to a file whose suffix chooses the format, under a temporary name first, then by a rename.

    `metadata` only goes into safetensors. Raises CheckpointError when the suffix is unknown or the place cannot be
    written.
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
                torch.save(whole, partial)
    except (OSError, TypeError, RuntimeError, SafetensorError) as error:
        raise CheckpointError(f"cannot write {path}: {_first_line(error)}") from None


def read_metadata(path: str | Path) -> dict[str, str]:
    """The metadata of a .safetensors; empty for other kinds of files.

    Raises CheckpointError when the file cannot be read.
    """
    if Path(path).suffix != ".safetensors":
        return {}
    try:
        with safe_open(str(path), "pt") as store:
            return dict(store.metadata() or {})
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"{path} cannot be read as safetensors: {_first_line(error)}") from None


def _read(path: Path) -> dict[str, Tensor]:
    if path.suffix == ".safetensors":
        return load_file(path)
    if path.suffix == ".npz":
        with np.load(path, allow_pickle=False) as archive:
            return {key: torch.from_numpy(np.asarray(archive[key])) for key in archive.files}
    return _only_tensors(torch.load(path, map_location="cpu", weights_only=True))


def _only_tensors(loaded: Any) -> dict[str, Tensor]:
    for key in ("model", "state_dict"):
        if isinstance(loaded, Mapping) and isinstance(loaded.get(key), Mapping):
            loaded = loaded[key]
    if not isinstance(loaded, Mapping) or not all(isinstance(value, Tensor) for value in loaded.values()):
        raise ValueError("it is not a dictionary of tensors")
    return dict(loaded)


def _check_suffix(path: Path) -> None:
    if path.suffix not in SUFFIXES:
        raise CheckpointError(f"{path}: the name must end in {', '.join(SUFFIXES)}")


def _some(names: Mapping[str, Any]) -> str:
    return f"it has {', '.join(list(names)[:3])}, ..." if names else "it is empty"


def _first_line(error: Exception) -> str:
    text = str(error).strip()
    return text.splitlines()[0][:200] if text else type(error).__name__
