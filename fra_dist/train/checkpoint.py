"""Checkpoints that are whole or absent, checked before they are trusted, and hold nothing that could run code.

    RUN/checkpoints/step-00000500/
        model.safetensors       every parameter and buffer of FRA: online, target, predictors, prototypes
        optimizer.safetensors   PARAMETER/STATE, for example online.backbone.conv1.weight/momentum_buffer
        state.json              step, the whole configuration, the versions that wrote it
        manifest.json           format version, size and SHA-256 of the three files above

A checkpoint is written under a temporary name, flushed to the disk and then renamed.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from fra_dist.config import Config, parse_config
from fra_dist.errors import CheckpointError, FraError
from fra_dist.models.fra import FRA

FORMAT = 1
_PARTS = ("model.safetensors", "optimizer.safetensors", "state.json")


@dataclass(frozen=True)
class Checkpoint:
    """One verified checkpoint on disk."""

    path: Path
    step: int
    config: Config
    versions: dict[str, Any]

    def model(self) -> dict[str, Tensor]:
        return _tensors(self.path / "model.safetensors")

    def optimizer(self) -> dict[str, Tensor]:
        return _tensors(self.path / "optimizer.safetensors")


def save_checkpoint(
    folder: Path,
    step: int,
    config: Config,
    model: Mapping[str, Tensor],
    optimizer: Mapping[str, Tensor],
    versions: Mapping[str, Any],
    keep_last: int,
    permit: Callable[[], None] = lambda: None,
) -> Path:
    """Write `folder/step-N` and delete all but the newest `keep_last`. Raises CheckpointError when the disk refuses.

    `permit` is called before anything that exists is touched, and again before the new folder gets its name.
    """
    permit()
    final = folder / f"step-{step:08d}"
    partial = folder / f".partial-{step:08d}-{os.getpid()}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for stale in folder.glob(".partial-*"):
            shutil.rmtree(stale)
        partial.mkdir()
        save_file(_packed(model), partial / "model.safetensors")
        save_file(_packed(optimizer), partial / "optimizer.safetensors")
        state = {"step": step, "config": config.model_dump(mode="json", by_alias=True), "versions": dict(versions)}
        (partial / "state.json").write_text(json.dumps(state, indent=1))
        files = {name: {"bytes": (partial / name).stat().st_size, "sha256": _digest(partial / name)} for name in _PARTS}
        (partial / "manifest.json").write_text(json.dumps({"format": FORMAT, "step": step, "files": files}, indent=1))
        for name in (*_PARTS, "manifest.json"):
            _flush(partial / name)
        _flush(partial)
        permit()
        if final.exists():
            shutil.rmtree(final)
        partial.rename(final)
        _flush(folder)
    except (OSError, SafetensorError) as error:
        shutil.rmtree(partial, ignore_errors=True)
        raise CheckpointError(
            f"cannot write checkpoint {final}: {getattr(error, 'strerror', None) or error}; earlier ones are untouched"
        ) from None
    for old in list_checkpoints(folder)[:-keep_last]:
        shutil.rmtree(old, ignore_errors=True)
    return final


def list_checkpoints(folder: Path) -> list[Path]:
    """Finished checkpoint folders, oldest first; damage is not looked for."""
    return sorted(folder.glob("step-*"))


def newest_good(folder: Path) -> tuple[Checkpoint | None, list[str]]:
    """The newest checkpoint that verifies, and one line for each newer one that does not."""
    damage: list[str] = []
    for path in reversed(list_checkpoints(folder)):
        try:
            return open_checkpoint(path), damage
        except CheckpointError as error:
            damage.append(str(error))
    return None, damage


def open_checkpoint(path: Path) -> Checkpoint:
    """Verify sizes and checksums, then read the state. Raises CheckpointError."""
    manifest = _json(path / "manifest.json", path)
    if manifest.get("format") != FORMAT:
        raise CheckpointError(
            f"checkpoint {path} has format {manifest.get('format')}; this version reads format {FORMAT}"
        )
    for name in _PARTS:
        expected = manifest.get("files", {}).get(name, {})
        part = path / name
        if not part.is_file():
            raise CheckpointError(f"checkpoint {path} is damaged: {name} is missing")
        size = part.stat().st_size
        if size != expected.get("bytes"):
            raise CheckpointError(
                f"checkpoint {path} is damaged: {name} has {size} bytes instead of {expected.get('bytes')}"
            )
        if _digest(part) != expected.get("sha256"):
            raise CheckpointError(f"checkpoint {path} is damaged: the checksum of {name} does not match")
    state = _json(path / "state.json", path)
    try:
        config = parse_config(state["config"], where=f"checkpoint {path}")
        return Checkpoint(path, int(state["step"]), config, dict(state["versions"]))
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f"checkpoint {path} is damaged: state.json lacks {error}") from None
    except FraError as error:
        raise CheckpointError(str(error)) from None


def find_checkpoint(path: str | Path) -> Checkpoint:
    """The checkpoint that a user means by a checkpoint folder, a run folder (its newest good one) or a file inside one.

    Raises CheckpointError when there is none.
    """
    place = Path(path)
    if not place.exists():
        raise CheckpointError(f"no checkpoint at {place}: no such file or folder")
    if place.is_file():
        place = place.parent
    if (place / "manifest.json").exists() or place.name.startswith("step-"):
        return open_checkpoint(place)
    folder = place if list_checkpoints(place) else place / "checkpoints"
    found, damage = newest_good(folder)
    if found is None:
        reason = f"; {damage[0]}" if damage else ""
        raise CheckpointError(
            f"no usable checkpoint in {path}: give a run folder or a step-N folder inside its checkpoints{reason}"
        )
    return found


def load_model(path: str | Path) -> tuple[FRA, Config, dict[str, Any]]:
    """(FRA in inference mode on the CPU, its configuration, {"path", "step", "versions"}). Raises CheckpointError."""
    found = find_checkpoint(path)
    model = FRA(found.config.model)
    restore_model(model, found)
    return model.eval(), found.config, {"path": str(found.path), "step": found.step, "versions": found.versions}


def restore_model(model: FRA, checkpoint: Checkpoint) -> None:
    """Copy the weights in. Raises CheckpointError when they are another architecture's."""
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
    """The optimiser's state by parameter name."""
    tensors = {}
    for parameter, values in optimizer.state.items():
        tensors.update(
            {f"{names[parameter]}/{key}": value for key, value in values.items() if isinstance(value, Tensor)}
        )
    return tensors


def restore_optimizer(
    optimizer: torch.optim.Optimizer, names: Mapping[Tensor, str], saved: Mapping[str, Tensor]
) -> None:
    """Put state saved by `optimizer_tensors` back. Raises CheckpointError on an unknown name."""
    by_name = {names[p]: p for group in optimizer.param_groups for p in group["params"]}
    for key, value in saved.items():
        name, _, kind = key.rpartition("/")
        if name not in by_name:
            raise CheckpointError(f"the optimiser state of {name} has no parameter in this model")
        parameter = by_name[name]
        optimizer.state[parameter][kind] = value.to(parameter.device if value.dim() else value.device)


def _packed(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: value.detach().cpu().contiguous() for name, value in tensors.items()}


def _tensors(path: Path) -> dict[str, Tensor]:
    try:
        return load_file(path)
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{path} cannot be read: {error}") from None


def _json(path: Path, checkpoint: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text())
    except OSError:
        raise CheckpointError(f"{checkpoint} is not a checkpoint: it has no {path.name}") from None
    except ValueError:
        raise CheckpointError(f"checkpoint {checkpoint} is damaged: {path.name} is not JSON") from None
    if not isinstance(value, dict):
        raise CheckpointError(f"checkpoint {checkpoint} is damaged: {path.name} is not an object")
    return value


def _digest(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _flush(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
