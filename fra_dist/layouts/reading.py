"""Tensors out of files, told apart by content: safetensors, `torch.save` and .npz. Reading never runs code."""

import pickle
import re
import struct
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from fra_dist.errors import CheckpointError
from fra_dist.files import disk_errors, failure, is_folder, open_stream, patiently
from fra_dist.layouts import inert
from fra_dist.stand_ins import stand_in

_INSIDE = (
    *("state_dict", "model", "teacher", "model_state_dict", "classy_state_dict", "base_model", "trunk", "student"),
    *("network", "net", "backbone", "encoder", "state_dict_backbone", "state_dict_ema", "model_ema", "params"),
)
"""Keys under which tools keep a state dict, those to look under first. DINO has a teacher and a student."""
_INSTEAD = "here, give the run or checkpoint that it was exported from, or an export with --format network"
FACTS = "fra_dist"
"""Attribute of the dictionary in a file of `torch.save` that holds what safetensors have as metadata."""
_DEEPEST = 6
_HEAD = 512
_BEGINNINGS = (b"\x80", b"PK")
"""First bytes of a pickle (of protocol 2 or later) and of a zip archive, one of which `torch.save` writes."""


@dataclass(frozen=True)
class TensorFile:
    """The tensors of a file."""

    tensors: dict[str, Tensor]
    """Tensors by name, on the CPU."""
    inside: tuple[str, ...] = ()
    """Keys that lead to them, for example ("teacher",)."""
    beside: Mapping[str, Any] | None = None
    """What the file holds at its top, for example an epoch and the name of an architecture."""
    facts: Mapping[str, str] | None = None
    """The metadata of a safetensors file, or of a .pth that this package exported."""


def read_file(path: str | Path) -> TensorFile:
    """The tensors of a file, from wherever in it they are.

    Raises CheckpointError, one line, when there is no such file, it cannot be read, or it holds no tensors.
    """
    path = Path(path)
    if is_folder(path):
        raise CheckpointError(f"{path} is a folder, not a file of weights")

    def beginning() -> bytes:
        with open_stream(path) as stream:
            return stream.read(_HEAD)

    try:
        head = patiently(beginning)
    except FileNotFoundError:
        raise CheckpointError(f"no weights at {path}: no such file") from None
    except OSError as error:
        raise failure(error, f"{path} cannot be read", CheckpointError) from None
    if (found := stand_in(head)) is not None:
        raise CheckpointError(f"{path} is {found}")

    def whole() -> TensorFile:
        with disk_errors(path):
            try:
                return _read(path, head)
            except zipfile.BadZipFile:  # zipfile takes an error of the disk for a damage: a second reading decides
                return _read(path, head)

    try:
        return patiently(whole)
    except OSError as error:
        raise failure(error, f"{path} cannot be read as weights", CheckpointError) from None
    except (ValueError, KeyError, EOFError, RuntimeError, SafetensorError, zipfile.BadZipFile) as error:
        raise CheckpointError(f"{path} cannot be read as weights: {first_line(error)}") from None
    except pickle.UnpicklingError as error:
        if not head.startswith(_BEGINNINGS):
            raise CheckpointError(f"{path} cannot be read as weights: it holds none, or is damaged") from None
        raise CheckpointError(f"{path} holds more than weights, or is damaged: {_without_advice(error)}") from None


def read_tensors(path: str | Path, prefix: str = "") -> dict[str, Tensor]:
    """The tensors of a file whose names start with `prefix`, under names without it.

    A file of `torch.save` may hold a dictionary of tensors, or one under the keys that training tools use. Raises
    CheckpointError when the file cannot be read or has no such tensors.
    """
    return under_prefix(path, read_file(path), prefix)


def under_prefix(path: str | Path, found: TensorFile, prefix: str) -> dict[str, Tensor]:
    """The tensors of a file that was read whose names start with `prefix`, under names without it.

    Raises CheckpointError, which names `path`, when there are none.
    """
    tensors = {key.removeprefix(prefix): value for key, value in found.tensors.items() if key.startswith(prefix)}
    if not tensors:
        has = some(found.tensors)
        raise CheckpointError(f"{path} holds no tensors whose names start with {prefix!r}: it has {has}")
    return tensors


def some(names: Mapping[str, Any]) -> str:
    """The first three names, for a message."""
    return ", ".join(list(names)[:3]) + (", ..." if len(names) > 3 else "")


def first_line(error: Exception) -> str:
    """The first line of what an exception says, 200 characters at most."""
    text = str(error).strip()
    return text.splitlines()[0][:200] if text else type(error).__name__


def _read(path: Path, head: bytes) -> TensorFile:
    if path.suffix == ".safetensors" or head[8:9] == b"{":
        with safe_open(str(path), "pt") as store:
            tensors = {name: store.get_tensor(name) for name in store.keys()}  # noqa: SIM118  # it is no mapping
            return _whole(TensorFile(tensors, facts=dict(store.metadata() or {})))
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
        _refuse_program(names)
        if names and all(name.endswith(".npy") for name in names):
            with np.load(path, allow_pickle=False) as arrays:
                return _whole(TensorFile({key: torch.from_numpy(np.asarray(arrays[key])) for key in arrays.files}))
    elif path.suffix == ".npz":
        raise ValueError("it is no archive of arrays")
    elif path.suffix == ".onnx":
        raise ValueError(f"it is an ONNX program, to be run with onnxruntime: {_INSTEAD}")
    try:
        loaded = inert.load(path)
    except (LookupError, TypeError, AttributeError, OverflowError, AssertionError, struct.error) as error:
        # what the unpickler meets in bytes that are no pickle, such as those of a text
        raise ValueError(f"it is no file of weights ({type(error).__name__}: {first_line(error)})") from None
    inside, tensors = _find(loaded)
    return _whole(TensorFile(tensors, inside, loaded if isinstance(loaded, Mapping) else None, _facts(loaded)))


def _facts(loaded: Any) -> dict[str, str] | None:
    """The facts that an export left on the dictionary of its tensors; None without any."""
    found = getattr(loaded, FACTS, None)
    if not isinstance(found, Mapping):
        return None
    return {key: value for key, value in found.items() if isinstance(key, str) and isinstance(value, str)}


def _refuse_program(names: Sequence[str]) -> None:
    """Raise ValueError when these are the members of a program, which is run rather than read."""
    if any(name.endswith("/constants.pkl") or "/code/" in name for name in names):
        raise ValueError("it is a TorchScript program, which is code: save its state_dict() with torch.save")
    if any(name.endswith("/models/model.json") for name in names):
        raise ValueError(f"it is a program of torch.export, to be run with torch.export.load: {_INSTEAD}")


def _whole(found: TensorFile) -> TensorFile:
    if not found.tensors:
        raise ValueError("it holds no dictionary of tensors")
    return found


def _find(loaded: Any, depth: int = 0) -> tuple[tuple[str, ...], dict[str, Tensor]]:
    """(the keys that lead to a state dict, the state dict); empty when there is none."""
    if not isinstance(loaded, Mapping) or depth > _DEEPEST:
        return (), {}
    tensors = {key: value for key, value in loaded.items() if isinstance(value, Tensor) and isinstance(key, str)}
    if tensors and len(tensors) == len(loaded):
        return (), tensors
    for key in _INSIDE if "teacher" not in loaded else ("teacher", *_INSIDE):
        if isinstance(loaded.get(key), Mapping):
            inside, found = _find(loaded[key], depth + 1)
            if found:
                return (key, *inside), found
    return (), tensors


def _without_advice(error: pickle.UnpicklingError) -> str:
    """What the restricted unpickler found, without its advice to load the file with code."""
    before, mark, reason = str(error).partition("WeightsUnpickler error: ")
    if mark:
        return reason.strip().splitlines()[0][:160]
    found = re.search(r"GLOBAL [\w.]+ whose module \w+ is blocked", before)
    if found is not None:
        return f"it names {found[0].removeprefix('GLOBAL ')}"
    return "it cannot be read without running code" if "eights only" in before else first_line(error)
