"""What checkpoints hold, and reading them. They are verified before they are trusted, and loading them runs no code.

    RUN/checkpoints/step-00000500/
        model.safetensors       every parameter and buffer of FRA: online, target, predictors, prototypes
        optimizer.safetensors   PARAMETER/STATE, for example online.backbone.conv1.weight/momentum_buffer
        state.json              step, the whole configuration, the versions that wrote it, the metrics of that step
        manifest.json           format version, size and SHA-256 of the three files above, and a sum of itself
    RUN/checkpoints/aside-00000600/   one that the run went back behind: damaged, or of steps that were undone

`writing` writes them, and `restoring` makes models and optimisers of them.
"""

import hashlib
import json
import os
import re
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetensors import SafetensorError

from fra_dist import files
from fra_dist.config import Config, parse_config
from fra_dist.errors import AccessError, CheckpointError, FraError

if TYPE_CHECKING:
    from torch import Tensor  # imported with the first tensors: what is no checkpoint is refused sooner

FORMAT = 1
"""The version of the format that this package writes and reads."""
MODEL, OPTIMIZER, STATE, MANIFEST = "model.safetensors", "optimizer.safetensors", "state.json", "manifest.json"
PARTS = (MODEL, OPTIMIZER, STATE)
"""The files of a checkpoint whose size and checksum its manifest holds."""
_OTHERS = {"shards": "shards", "arrays": "embeddings"}
"""What else has a file called like the manifest: a key of it, and a word for the folder."""
_NAME = re.compile(r"step-(\d{8,})")


class FormatError(CheckpointError):
    """A checkpoint of another version of this package: whole, but not readable by this one."""


@dataclass(frozen=True)
class Checkpoint:
    """One checkpoint on disk whose checksums have been verified: its state, and access to its tensors."""

    path: Path
    """The folder of the checkpoint."""
    step: int
    """The number of optimiser steps that were done when it was saved."""
    config: Config
    """The configuration of the run that wrote it."""
    versions: dict[str, Any]
    """The versions of Python, packages, code and device that wrote it."""
    metrics: dict[str, float] = field(default_factory=dict)
    """The finite values of the metrics row of its step."""
    memory: dict[str, Any] = field(default_factory=dict)
    """Small JSON values of hooks and of the guard that outlive a stop."""
    averaged: list[int] = field(default_factory=list)
    """The steps whose mean it is, when `fra-dist ckpt average` made it; it then has no optimiser state. Else empty."""

    def model(self) -> dict[str, "Tensor"]:
        """Read every parameter and buffer of the model onto the CPU, by name.

        Raises CheckpointError or DiskError when the file cannot be read.
        """
        return _tensors(self.path / MODEL)

    def optimizer(self) -> dict[str, "Tensor"]:
        """Read the optimiser's state onto the CPU, by PARAMETER/STATE.

        Raises CheckpointError or DiskError when the file cannot be read.
        """
        return _tensors(self.path / OPTIMIZER)


def list_checkpoints(folder: Path) -> list[Path]:
    """List the finished checkpoint folders in `folder`, oldest first; empty when there is no such folder.

    Their content is not verified, and folders with other names are ignored. Raises DiskError or AccessError when the
    folder cannot be read, or when one of them is a link that leads nowhere.
    """
    named = [path for path in files.paths_in(folder, "step-*") if _NAME.fullmatch(path.name)]
    for path in named:
        if files.is_link(path) and not files.exists(path):
            raise AccessError(
                f"{path} is a link to {os.readlink(path)}, which is not there: mount it, or delete the link"
            )
    return sorted((path for path in named if files.is_folder(path)), key=step_of)


def step_of(path: Path) -> int:
    """Return the step in the name of a checkpoint folder; -1 for other names."""
    match = _NAME.fullmatch(path.name)
    return int(match[1]) if match else -1


def newest_good(folder: Path, before: int | None = None) -> tuple[Checkpoint | None, list[str]]:
    """Return the newest checkpoint that verifies, and one line for each newer one that does not.

    `before` admits only checkpoints of smaller steps. The checkpoint is None when none verifies. Raises FormatError
    when a newer one is of another format version, DiskError or AccessError when one cannot be read: resuming from an
    older one would undo its steps.
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
    """Verify the sizes and checksums of a checkpoint, then read its state.

    Raises CheckpointError on damage, FormatError for another format, DiskError or AccessError when it cannot be read.
    """
    if not files.is_folder(path):
        raise CheckpointError(f"no checkpoint at {path}: no such folder")
    manifest = read_manifest(path)
    with ThreadPoolExecutor(len(PARTS), "fra-verify") as pool:  # hashing takes longer than a fast disk
        for _ in pool.map(lambda name: _verify(path, name, manifest), PARTS):
            """The first error in the order of the parts is raised."""
    state = _json(path / STATE, path)
    if state.get("step") != manifest.get("step") or step_of(path) not in (-1, state.get("step")):
        raise CheckpointError(f"checkpoint {path} is damaged: it holds step {state.get('step')}")
    config = _config_in(path, state)
    try:
        facts = {name: state[name] for name in ("metrics", "memory", "averaged") if name in state}
        return Checkpoint(path, int(state["step"]), config, dict(state["versions"]), **facts)
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f"checkpoint {path} is damaged: {STATE} lacks {error}") from None


def newest_config(folder: Path) -> Config | None:
    """Return the configuration in the newest checkpoint whose state is whole; None when there is none.

    Weights are not verified, so it takes hardly any time. Raises DiskError or AccessError when a file cannot be read.
    """
    for path in reversed(list_checkpoints(folder)):
        try:
            _verify(path, STATE, read_manifest(path))
            return _config_in(path, _json(path / STATE, path))
        except CheckpointError:
            continue  # `newest_good` says what is wrong with it
    return None


def _config_in(path: Path, state: Mapping[str, Any]) -> Config:
    if not isinstance(state.get("config"), dict):
        raise CheckpointError(f"checkpoint {path} is damaged: {STATE} lacks the configuration")
    try:
        return parse_config(state["config"], where=f"checkpoint {path}")
    except FraError as error:
        raise FormatError(f"{error}: it was written by another version of fra-dist") from None


def read_manifest(path: Path) -> dict[str, Any]:
    """Read the manifest of a checkpoint folder. Raises CheckpointError on damage, FormatError for another format."""
    manifest = _json(path / MANIFEST, path)
    for key, what in _OTHERS.items():
        if key in manifest and "check" not in manifest:
            raise CheckpointError(f"{path} holds {what}, not a checkpoint: give a run folder or a checkpoint in it")
    if manifest.get("check") != manifest_check(manifest):
        raise CheckpointError(f"checkpoint {path} is damaged: the checksum of {MANIFEST} does not match")
    if manifest.get("format") != FORMAT:
        raise FormatError(
            f"checkpoint {path} has format {manifest.get('format')}; this version of fra-dist reads format {FORMAT}: "
            f"use the version that wrote it, or name another checkpoint with --from"
        )
    return manifest


def manifest_check(manifest: Mapping[str, Any]) -> str:
    """Compute the checksum of a manifest itself, so that a damaged one does not pass for one of another format.

    It is the same in all formats: SHA-256 of the JSON with sorted keys, without spaces and without the entry "check".
    """
    rest = {key: value for key, value in manifest.items() if key != "check"}
    return hashlib.sha256(json.dumps(rest, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def _verify(path: Path, name: str, manifest: Mapping[str, Any]) -> None:
    part = path / name
    listed = manifest.get("files")
    expected = listed.get(name) if isinstance(listed, dict) else None
    if not isinstance(expected, dict) or not files.is_file(part):
        raise CheckpointError(f"checkpoint {path} is damaged: {name} is missing")
    try:
        size, digest = files.patiently(lambda: _size_and_sum(part))
    except OSError as error:
        raise files.failure(error, f"checkpoint {path} cannot be read: {name}") from None
    if size != expected.get("bytes"):
        raise CheckpointError(
            f"checkpoint {path} is damaged: {name} has {size} bytes instead of {expected.get('bytes')}"
        )
    if digest != expected.get("sha256"):
        raise CheckpointError(f"checkpoint {path} is damaged: the checksum of {name} does not match")


def _size_and_sum(part: Path) -> tuple[int, str]:
    with os.fdopen(files.open_to_read(part), "rb") as stream:
        return os.fstat(stream.fileno()).st_size, hashlib.file_digest(stream, "sha256").hexdigest()


def refuse_missing_checkpoint(path: Path) -> None:
    """Raise CheckpointError when there is no such file or folder; needs no torch."""
    if not files.exists(path):
        raise CheckpointError(f"no checkpoint at {path}: no such file or folder")


def find_checkpoint(path: str | Path) -> Checkpoint:
    """Find the checkpoint that `path` means: a checkpoint folder, a file in one, or a run folder (its newest good one).

    Raises CheckpointError when there is none.
    """
    place = Path(path)
    refuse_missing_checkpoint(place)
    if not files.is_folder(place):
        place = place.parent
    if files.exists(place / MANIFEST) or place.name.startswith("step-"):
        return open_checkpoint(place)
    folder = place if list_checkpoints(place) else place / "checkpoints"
    found, damage = newest_good(folder)
    if found is None:
        reason = f"; {damage[0]}" if damage else ""
        raise CheckpointError(
            f"no usable checkpoint in {path}: give a run folder or a step-N folder inside its checkpoints{reason}"
        )
    return found


def _tensors(path: Path) -> dict[str, "Tensor"]:
    try:
        return files.patiently(lambda: _load(path))
    except SafetensorError as error:
        raise CheckpointError(f"{path} cannot be read: {error}") from None
    except OSError as error:
        raise files.failure(error, f"{path} cannot be read", CheckpointError) from None


def _load(path: Path) -> dict[str, "Tensor"]:
    """Load the tensors of a file. Raises OSError and SafetensorError."""
    from safetensors.torch import load_file

    with files.disk_errors(path):
        return load_file(path)


def _json(path: Path, checkpoint: Path) -> dict[str, Any]:
    data = files.read_bytes(path) if files.is_file(path) else None
    if data is None:
        raise CheckpointError(f"{checkpoint} is not a checkpoint, or a damaged one: it has no {path.name}")
    value = files.parse_object(data)
    if value is None:
        raise CheckpointError(f"checkpoint {checkpoint} is damaged: {path.name} is not a JSON object")
    return value
