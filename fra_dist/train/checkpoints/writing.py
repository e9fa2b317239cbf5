"""Writing a checkpoint: under a temporary name, flushed to the disk, then renamed, so that it is whole or absent.

    RUN/checkpoints/.partial-*    being written or deleted; what a killed process leaves is removed by the next save

Names of such folders are drawn at random: one that another process left, or still writes, is never taken for ours.
"""

import errno
import json
import math
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import uuid4

from torch import Tensor

from fra_dist import files
from fra_dist.config import Config
from fra_dist.errors import AccessError, DiskError, SaveError
from fra_dist.train.checkpoints.reading import (
    FORMAT,
    MANIFEST,
    MODEL,
    OPTIMIZER,
    STATE,
    list_checkpoints,
    manifest_check,
    step_of,
)
from fra_dist.train.checkpoints.tensor_file import tensor_bytes, write_pieces, write_tensors


@dataclass(frozen=True)
class Contents:
    """What a checkpoint holds; its tensors are whole, contiguous and on the CPU when it is written."""

    step: int
    """The number of optimiser steps that are done."""
    config: Config
    """The configuration of the run."""
    model: Mapping[str, Tensor]
    """Every parameter and buffer of the model, by name."""
    optimizer: Mapping[str, Tensor]
    """The optimiser's state, by PARAMETER/STATE."""
    versions: Mapping[str, Any]
    """The versions of Python, packages, code and device."""
    metrics: Mapping[str, Any] = field(default_factory=dict)
    """The metrics row of the step; values that are not finite are left out of the checkpoint."""
    memory: Mapping[str, Any] = field(default_factory=dict)
    """Small JSON values of hooks and of the guard that outlive a stop."""
    averaged: tuple[int, ...] = ()
    """The steps whose mean the model is; empty for the model of a single step."""

    def state(self) -> dict[str, Any]:
        """Return what state.json will hold, as JSON values; metrics that are not finite are left out."""
        finite = {k: v for k, v in self.metrics.items() if isinstance(v, int | float) and math.isfinite(v)}
        config = self.config.model_dump(mode="json", by_alias=True)
        state = {"step": self.step, "config": config, "versions": dict(self.versions), "metrics": finite}
        return {**state, "memory": dict(self.memory), "averaged": list(self.averaged)}


def save_checkpoint(folder: Path, contents: Contents, permit: Callable[[], None] = lambda: None) -> Path:
    """Write the checkpoint `folder/step-N` and return its path.

    `permit` is called before anything that exists is touched, and again before the new folder gets its name. Raises
    SaveError when the disk refuses; what was there before is then untouched.
    """
    permit()
    final = folder / f"step-{contents.step:08d}"
    try:
        files.make_folder(folder)
        for stale in files.paths_in(folder, ".partial-*"):  # a link or a file among them is not ours, and stays
            shutil.rmtree(stale, ignore_errors=True)
        write_folder(contents, final, permit)
    except OSError as error:
        raise _refused(final, error.strerror or str(error)) from None
    except (DiskError, AccessError) as error:
        raise _refused(final, str(error)) from None
    return final


def write_folder(contents: Contents, final: Path, permit: Callable[[], None] = lambda: None) -> None:
    """Write the files into a new folder beside `final`, then give it that name.

    `permit` is called before `final` is replaced. Raises OSError; the new folder is then removed.
    """
    partial = _beside(final)
    partial.mkdir(parents=True)
    try:
        _check_space(partial, contents)
        state = json.dumps(contents.state(), indent=1).encode()
        parts = {
            MODEL: write_tensors(partial / MODEL, contents.model),
            OPTIMIZER: write_tensors(partial / OPTIMIZER, contents.optimizer),
            STATE: write_pieces(partial / STATE, [state]),
        }
        manifest: dict[str, Any] = {"format": FORMAT, "step": contents.step}
        manifest["files"] = {name: {"bytes": part.bytes, "sha256": part.sha256} for name, part in parts.items()}
        manifest["check"] = manifest_check(manifest)
        write_pieces(partial / MANIFEST, [json.dumps(manifest, indent=1).encode()])
        files.sync_folder(partial)
        permit()
        if files.exists(final):
            delete_checkpoint(final)
        partial.rename(final)  # not `whole_file`: a checkpoint is a folder
        files.sync_folder(final.parent)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise


def set_aside(folder: Path, step: int) -> list[Path]:
    """Rename the checkpoints of steps after `step`, to which the run returns; give their new paths.

    They would otherwise count as newer than what the run saves next. Of those set aside earlier, only so many stay that
    there are two in all. Raises SaveError when the disk refuses.
    """
    moved = []
    try:
        for path in list_checkpoints(folder):
            if step_of(path) <= step:
                continue
            target = path.with_name(path.name.replace("step-", "aside-"))
            if files.exists(target):
                shutil.rmtree(target)
            moved.append(path.rename(target))
        former = [path for path in files.paths_in(folder, "aside-*") if path not in moved]
        former.sort(key=lambda path: path.stat().st_mtime)
        for old in former[: max(0, len(former) + len(moved) - 2)]:
            shutil.rmtree(old, ignore_errors=True)
    except OSError as error:
        raise SaveError(f"cannot set aside the checkpoints of {folder} after step {step}: {error.strerror}") from None
    return moved


def delete_checkpoint(path: Path) -> None:
    """Delete a checkpoint so that a kill half-way leaves nothing that looks like a damaged one. Raises OSError.

    A checkpoint that is a symbolic link stays: what it points to does not belong to the run.
    """
    if path.is_symlink():
        return
    doomed = _beside(path)
    path.rename(doomed)
    shutil.rmtree(doomed, ignore_errors=True)


def _beside(path: Path) -> Path:
    """Return a name for a folder that becomes `path`, or was it."""
    return path.with_name(f".partial-{path.name}-{uuid4().hex}")


def _check_space(folder: Path, contents: Contents) -> None:
    """Raise OSError when the disk has too little space, before half of it is written; a quota is not seen here."""
    wanted = tensor_bytes(contents.model) + tensor_bytes(contents.optimizer)
    free = shutil.disk_usage(folder).free
    if wanted > free:
        raise OSError(errno.ENOSPC, f"it needs {wanted / 1e6:.1f} MB and {free / 1e6:.1f} MB are free")


def _refused(final: Path, reason: str) -> SaveError:
    return SaveError(f"cannot write checkpoint {final}: {reason}; earlier ones are untouched")
