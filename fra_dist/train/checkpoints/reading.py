"""Checkpoints: what they hold, and reading them. They are checked before they are trusted and run no code.

    RUN/checkpoints/step-00000500/
        model.safetensors       every parameter and buffer of FRA: online, target, predictors, prototypes
        optimizer.safetensors   PARAMETER/STATE, for example online.backbone.conv1.weight/momentum_buffer
        state.json              step, the whole configuration, the versions that wrote it, the metrics of that step
        manifest.json           format version, size and SHA-256 of the three files above, and a sum of itself
    RUN/checkpoints/aside-00000600/   one that the run went back behind: damaged, or of steps that were undone

`checkpoint_write.py` writes them.
"""

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from fra_dist.config import Config, parse_config
from fra_dist.errors import CheckpointError, FraError
from fra_dist.models.fra import FRA

FORMAT = 1
MODEL, OPTIMIZER, STATE, MANIFEST = "model.safetensors", "optimizer.safetensors", "state.json", "manifest.json"
PARTS = (MODEL, OPTIMIZER, STATE)
_NAME = re.compile(r"step-(\d{8,})")


class FormatError(CheckpointError):
    """A checkpoint of another version of this package: whole, but not readable here."""


@dataclass(frozen=True)
class Checkpoint:
    """One verified checkpoint on disk. `metrics`: finite values of its step's row; `memory`: small values of hooks."""

    path: Path
    step: int
    config: Config
    versions: dict[str, Any]
    metrics: dict[str, float] = field(default_factory=dict)
    memory: dict[str, Any] = field(default_factory=dict)
    averaged: list[int] = field(default_factory=list)
    """The steps whose mean it is, when `fra-dist ckpt average` made it; such a one has no optimiser state."""

    def model(self) -> dict[str, Tensor]:
        return _tensors(self.path / MODEL)

    def optimizer(self) -> dict[str, Tensor]:
        return _tensors(self.path / OPTIMIZER)


def list_checkpoints(folder: Path) -> list[Path]:
    """Finished checkpoint folders, oldest first; damage is not looked for, and what has another name is not ours."""
    try:
        found = [path for path in folder.iterdir() if _NAME.fullmatch(path.name) and path.is_dir()]
    except OSError:
        return []
    return sorted(found, key=step_of)


def step_of(path: Path) -> int:
    """The step in a folder's name; -1 for other names."""
    match = _NAME.fullmatch(path.name)
    return int(match[1]) if match else -1


def newest_good(folder: Path, before: int | None = None) -> tuple[Checkpoint | None, list[str]]:
    """The newest checkpoint that verifies (of a step below `before`), and one line for each newer one that does not.

    Raises FormatError when a newer one is of another format version: going on from an older one would undo its steps.
    """
    damage: list[str] = []
    for path in reversed(list_checkpoints(folder)):
        if before is not None and step_of(path) >= before:
            continue
        try:
            return open_checkpoint(path), damage
        except FormatError:
            raise
        except CheckpointError as error:
            damage.append(str(error))
    return None, damage


def open_checkpoint(path: Path) -> Checkpoint:
    """Verify sizes and checksums, then read the state. Raises CheckpointError."""
    if not path.is_dir():
        raise CheckpointError(f"no checkpoint at {path}: no such folder")
    manifest = read_manifest(path)
    for name in PARTS:
        _verify(path, name, manifest["files"].get(name))
    state = _json(path / STATE, path)
    if state.get("step") != manifest.get("step") or step_of(path) not in (-1, state.get("step")):
        raise CheckpointError(f"checkpoint {path} is damaged: it holds step {state.get('step')}")
    try:
        config = parse_config(state["config"], where=f"checkpoint {path}")
        facts = {name: state[name] for name in ("metrics", "memory", "averaged") if name in state}
        return Checkpoint(path, int(state["step"]), config, dict(state["versions"]), **facts)
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f"checkpoint {path} is damaged: {STATE} lacks {error}") from None
    except FraError as error:
        raise FormatError(f"{error}: it was written by another version of fra-dist") from None


def read_manifest(path: Path) -> dict[str, Any]:
    """The manifest of a checkpoint folder. Raises CheckpointError on damage, FormatError on another format."""
    manifest = _json(path / MANIFEST, path)
    if manifest.get("check") != manifest_check(manifest):
        raise CheckpointError(f"checkpoint {path} is damaged: the checksum of {MANIFEST} does not match")
    if manifest.get("format") != FORMAT:
        raise FormatError(
            f"checkpoint {path} has format {manifest.get('format')}; this version of fra-dist reads format {FORMAT}: "
            f"use the version that wrote it, or name another checkpoint with --from"
        )
    return manifest


def manifest_check(manifest: Mapping[str, Any]) -> str:
    """A sum over the manifest itself: a damaged one must not pass for one of another format. The same in all formats:
    SHA-256 of its JSON with sorted keys, without spaces, and without this entry."""
    rest = {key: value for key, value in manifest.items() if key != "check"}
    return hashlib.sha256(json.dumps(rest, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def _verify(path: Path, name: str, expected: dict[str, Any] | None) -> None:
    part = path / name
    if expected is None or not part.is_file():
        raise CheckpointError(f"checkpoint {path} is damaged: {name} is missing")
    try:
        size = part.stat().st_size
        if size != expected.get("bytes"):
            raise CheckpointError(
                f"checkpoint {path} is damaged: {name} has {size} bytes instead of {expected.get('bytes')}"
            )
        with part.open("rb") as stream:
            digest = hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as error:
        raise CheckpointError(f"checkpoint {path} cannot be read: {name}: {error.strerror}") from None
    if digest != expected.get("sha256"):
        raise CheckpointError(f"checkpoint {path} is damaged: the checksum of {name} does not match")


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
        own = value.to(parameter.device, copy=True)  # the caller may use its own again
        if own.shape == parameter.shape:  # kernels need the parameter's layout
            own = torch.empty_like(parameter, dtype=own.dtype, requires_grad=False).copy_(own)
        optimizer.state[parameter][kind] = own


def _tensors(path: Path) -> dict[str, Tensor]:
    try:
        return load_file(path)
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{path} cannot be read: {error}") from None


def _json(path: Path, checkpoint: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text())
    except FileNotFoundError:
        raise CheckpointError(f"{checkpoint} is not a checkpoint, or a damaged one: it has no {path.name}") from None
    except OSError as error:
        raise CheckpointError(f"checkpoint {checkpoint} cannot be read: {path.name}: {error.strerror}") from None
    except ValueError:
        raise CheckpointError(f"checkpoint {checkpoint} is damaged: {path.name} is not JSON") from None
    if not isinstance(value, dict):
        raise CheckpointError(f"checkpoint {checkpoint} is damaged: {path.name} is not an object")
    return value
