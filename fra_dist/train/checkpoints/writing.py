"""Writing a checkpoint: under a temporary name, flushed to the disk, then renamed, so that it is whole or absent.

RUN/checkpoints/.partial-*    being written or deleted; what a killed process leaves is removed by the next save

Names of such folders are drawn at random: one that another process left, or still works on, is never taken for ours.
"""

import errno
import json
import math
import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import uuid4

from torch import Tensor

from fra_dist.config import Config
from fra_dist.errors import SaveError
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
    """What a checkpoint holds; the tensors are whole, contiguous and on the CPU."""

    step: int
    config: Config
    model: Mapping[str, Tensor]
    optimizer: Mapping[str, Tensor]
    versions: Mapping[str, Any]
    metrics: Mapping[str, Any] = field(default_factory=dict)
    memory: Mapping[str, Any] = field(default_factory=dict)
    averaged: tuple[int, ...] = ()

    def state(self) -> dict[str, Any]:
        """The content of state.json."""
        finite = {k: v for k, v in self.metrics.items() if isinstance(v, int | float) and math.isfinite(v)}
        config = self.config.model_dump(mode="json", by_alias=True)
        state = {"step": self.step, "config": config, "versions": dict(self.versions), "metrics": finite}
        return {**state, "memory": dict(self.memory), "averaged": list(self.averaged)}


def save_checkpoint(folder: Path, contents: Contents, permit: Callable[[], None] = lambda: None) -> Path:
    """Write `folder/step-N`. Raises SaveError when the disk refuses; what was there before is then untouched.

    `permit` is called before anything that exists is touched, and again before the new folder gets its name.
    """
    permit()
    final = folder / f"step-{contents.step:08d}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for stale in folder.glob(".partial-*"):  # a link or a file among them is not ours, and stays
            shutil.rmtree(stale, ignore_errors=True)
        write_folder(contents, final, permit)
    except OSError as error:
        raise _refused(final, error) from None
    return final


def write_folder(contents: Contents, final: Path, permit: Callable[[], None] = lambda: None) -> None:
    """Write the files in a new folder beside `final`, then give it that name. Raises OSError; the new one is gone then.

    `permit` is called before `final` is replaced.
    """
    partial = _beside(final)
    partial.mkdir(parents=True)
    try:
        _check_room(partial, contents)
        state = json.dumps(contents.state(), indent=1).encode()
        files = {
            MODEL: write_tensors(partial / MODEL, contents.model),
            OPTIMIZER: write_tensors(partial / OPTIMIZER, contents.optimizer),
            STATE: write_pieces(partial / STATE, iter([state])),
        }
        manifest: dict[str, Any] = {"format": FORMAT, "step": contents.step}
        manifest["files"] = {name: {"bytes": part.bytes, "sha256": part.sha256} for name, part in files.items()}
        manifest["check"] = manifest_check(manifest)
        write_pieces(partial / MANIFEST, iter([json.dumps(manifest, indent=1).encode()]))
        _flush(partial)
        permit()
        if final.exists():
            delete_checkpoint(final)
        partial.rename(final)
        _flush(final.parent)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise


def set_aside(folder: Path, step: int) -> list[Path]:
    """Give checkpoints of steps after `step` another name: the run goes back behind them. Raises SaveError.

    They would otherwise count as newer than what it saves next. Of those set aside earlier, only so many stay that
    there are two.
    """
    moved = []
    try:
        for path in list_checkpoints(folder):
            if step_of(path) <= step:
                continue
            target = path.with_name(path.name.replace("step-", "aside-"))
            if target.exists():
                shutil.rmtree(target)
            moved.append(path.rename(target))
        former = sorted((p for p in folder.glob("aside-*") if p not in moved), key=lambda p: p.stat().st_mtime)
        for old in former[: max(0, len(former) + len(moved) - 2)]:
            shutil.rmtree(old, ignore_errors=True)
    except OSError as error:
        raise SaveError(f"cannot set aside the checkpoints of {folder} after step {step}: {error.strerror}") from None
    return moved


def delete_checkpoint(path: Path) -> None:
    """Delete a checkpoint so that a kill half-way leaves nothing that looks like a damaged one. Raises OSError.

    One that is a link stays: what it points to is not ours.
    """
    if path.is_symlink():
        return
    doomed = _beside(path)
    path.rename(doomed)
    shutil.rmtree(doomed, ignore_errors=True)


def _beside(path: Path) -> Path:
    """A name for a folder that becomes `path`, or was it."""
    return path.with_name(f".partial-{path.name}-{uuid4().hex}")


def _check_room(folder: Path, contents: Contents) -> None:
    """Refuse before writing half of it: a quota is not seen here, the disk's own end is."""
    wanted = tensor_bytes(contents.model) + tensor_bytes(contents.optimizer)
    free = shutil.disk_usage(folder).free
    if wanted > free:
        raise OSError(errno.ENOSPC, f"it needs {wanted / 1e6:.1f} MB and {free / 1e6:.1f} MB are free")


def _refused(final: Path, error: OSError) -> SaveError:
    return SaveError(f"cannot write checkpoint {final}: {error.strerror or error}; earlier ones are untouched")


def _flush(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
