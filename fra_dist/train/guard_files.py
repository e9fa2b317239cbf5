"""What the guard's decisions leave in the run folder.

    RUN/guard/passed_over.json    {"41": "nonfinite"}: steps, counted from 0, that the run leaves out, and why
        retried.json              [41]: steps that the run went back for once, to do them again
        step-00000042/            what was read at a step that went wrong, and the command that does it again

The two lists outlive a return to an earlier checkpoint, and a restart after it: both must come to the same decisions.
"""

import json
import shlex
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from fra_dist import files
from fra_dist.data.order.plan import Plan
from fra_dist.data.shards.manifest import Manifest
from fra_dist.errors import DataError, LaunchError, TrainingError
from fra_dist.train.guards import Verdict

FOLDER = "guard"
PASSED_OVER = "passed_over.json"
RETRIED = "retried.json"
_NAMED = 1024


def read_passed_over(folder: Path) -> dict[int, str]:
    """Read the steps, counted from 0, that the run in `folder` leaves out: {step: the fault for which it does}.

    The user may write a bare list of steps; their fault is then empty. Raises TrainingError when the file cannot be
    read or is damaged.
    """
    value = _read(folder / FOLDER / PASSED_OVER, "it lists the steps that the run leaves out; write them as [12, 40]")
    return {step: str(value[key]) if isinstance(value, dict) else "" for key in value for step in [int(key)]}


def read_retried(folder: Path) -> list[int]:
    """Read the steps, counted from 0, that the run in `folder` has gone back for, to do them again.

    Raises TrainingError when the file cannot be read or is damaged.
    """
    return [int(step) for step in _read(folder / FOLDER / RETRIED, "it lists the steps that were done again")]


def write_passed_over(folder: Path, steps: Mapping[int, str]) -> None:
    """Replace the list of steps that the run leaves out; {step: fault}. Raises LaunchError when the disk refuses."""
    _write(folder / FOLDER / PASSED_OVER, {str(step): steps[step] for step in sorted(steps)})


def write_retried(folder: Path, steps: Iterable[int]) -> None:
    """Replace the list of steps that were done again. Raises LaunchError when the disk refuses."""
    _write(folder / FOLDER / RETRIED, sorted(steps))


def fault_record(folder: Path, step: int) -> Path:
    """Return the folder that describes a step (counted from 0) of the run in `folder` that went wrong."""
    return folder / FOLDER / f"step-{step + 1:08d}"


def write_fault_record(folder: Path, verdict: Verdict, plan: Plan, manifest: Manifest, world: int) -> None:
    """Describe a step that went wrong: what all ranks read at it, and the command that does it again.

    `plan` says which samples the step has, `manifest` names them, and `world` is the number of ranks. Raises OSError.
    """
    path, step = fault_record(folder, verdict.step), verdict.step + 1
    planned = plan.batch(verdict.step)
    ids = planned.ids.tolist()
    named = [{"id": i, **_name(manifest, i)} for i in ids[:_NAMED]]
    facts = {"step": step, "fault": verdict.fault, "reason": verdict.reason, "world": world}
    text = json.dumps({**facts, "epoch": int(planned.epochs[0]), "samples": ids, "named": named}, indent=1)
    path.mkdir(parents=True, exist_ok=True)
    (path / "batch.json").write_text(text)
    (path / "reproduce.sh").write_text(
        "#!/bin/sh\n# Do the steps from the checkpoint before this one again, and say where it goes wrong.\n"
        f"fra-dist replay {shlex.quote(str(folder))} {step}\n"
    )


def _name(manifest: Manifest, sample: int) -> dict[str, str]:
    try:
        shard, key = manifest.where(sample)
    except DataError as error:
        return {"unreadable": str(error)}
    return {"shard": shard, "key": key}


def _read(path: Path, what: str) -> Any:
    try:
        value = json.loads(files.raw_text(path))
        if not isinstance(value, list | dict):
            raise TypeError
        for step in value:
            int(step)
    except FileNotFoundError:
        return []
    except OSError as error:
        raise files.failure(error, f"{path} cannot be read ({what})", TrainingError) from None
    except (ValueError, TypeError):
        raise TrainingError(f"{path} is damaged: {what}, or delete it to begin with none") from None
    return value


def _write(path: Path, value: Any) -> None:
    """Write a file whole or not at all, and onto the disk before the run relies on it."""
    try:
        files.make_folder(path.parent)
        files.write_object(path, value)
    except OSError as error:
        raise files.failure(error, f"cannot write {path}", LaunchError) from None
