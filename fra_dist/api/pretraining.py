"""Pre-training from Python and for `fra-dist pretrain`: the loop with everything that a run leaves on disk."""

import shlex
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fra_dist.config import Config, config_with, load_config
from fra_dist.exit_status import COMPLETE, FAILED, HUNG, INTERRUPTED, STOPPED
from fra_dist.formats import plural
from fra_dist.train.liveness.bounded import leave_within

if TYPE_CHECKING:
    from fra_dist.train.hooks.metrics import Metrics
    from fra_dist.train.trainer import Hook

Closing = Callable[[float, int], Any]
"""Called with (seconds, status) before a run is closed; the result's `cancel` is called afterwards."""


@dataclass(frozen=True)
class RunResult:
    """How a call of `pretrain` ended."""

    folder: Path
    """The run folder, which `fra_dist.load` takes."""
    step: int
    """Optimiser steps that are done."""
    complete: bool
    """Whether all steps are done; otherwise the same call resumes."""
    status: int
    """The exit status of the command: 0 complete, 75 asked to stop and saved, 130 the same after Ctrl-C."""


def pretrain(
    config: Config | str | Path | Mapping[str, Any],
    *,
    force: bool = False,
    fresh: bool = False,
    source: str | Path | None = None,
    **keys: Any,
) -> RunResult:
    """Start a run, or resume it, as `fra-dist pretrain` does. Returns when it is complete or was asked to stop.

    config: a `Config`, a YAML file or the name of a shipped one, or a dictionary of sections.
    keys: settings to change: a whole key (`output="runs/mine"`), a section as a dictionary (`train={"steps": 100}`), or
    a dotted name (`**{"train.steps": 100}`).
    force: resume although settings that matter changed; fresh: begin at step 0; source: the checkpoint to resume from.

    Raises ConfigError, DataError, CheckpointError, LaunchError or TrainingError, each with one line. In a notebook use
    `data={"threads": 1}` on few cores; an interrupt (Ctrl-C, the stop button) saves first. Runs may follow each other
    in one process, with either `train.backend`.

        run = fra_dist.pretrain("debug_cpu", data={"photos": "faces"}, output="runs/mine", train={"steps": 20})
        model = fra_dist.load(run.folder)
    """
    changed = config_with(config if isinstance(config, Config | Mapping) else load_config(config), keys)
    from fra_dist import distributed

    with distributed.left_afterwards():
        return run_to_end(changed, force, fresh, None if source is None else Path(source), _stay)


def run_to_end(
    config: Config,
    force: bool = False,
    fresh: bool = False,
    source: Path | None = None,
    closing: Closing = leave_within,
    profile: int | None = None,
) -> RunResult:
    """Train, with pictures, until the run is complete or asked to stop.

    force, fresh, source: as for `pretrain`; closing: what ends a process that hangs while the run is closed;
    profile: the number of steps to trace.
    """
    from fra_dist import distributed
    from fra_dist.report.picture_hook import RunPictures
    from fra_dist.train.hooks.collapse_alarms import Alarms
    from fra_dist.train.hooks.metrics import Metrics
    from fra_dist.train.hooks.profile import Profile
    from fra_dist.train.hooks.progress import Progress
    from fra_dist.train.hooks.sample_log import SampleLog
    from fra_dist.train.hooks.saving import Checkpoints
    from fra_dist.train.hooks.stragglers import Stragglers
    from fra_dist.train.prepare import close, prepare
    from fra_dist.train.resume import Origin
    from fra_dist.train.trainer import train

    run = prepare(config, force, Origin(fresh, source))
    status, patience = FAILED, CLOSING + config.checkpoint.patience_seconds
    last = None
    try:
        if run.ctx.is_main:
            print(
                _opening(config, run.completed, run.sizes.total_steps, run.ctx.world, str(run.ctx.device)), flush=True
            )
        metrics = Metrics()
        # stragglers before probes, which take rank 0 long; probes before checkpoints, which keep the step's scores
        seen = [metrics, Alarms(metrics), Stragglers(), *_probes(config, metrics)]
        watched = [Profile(profile)] if profile else []
        done = train(run, [SampleLog(), *seen, *watched, Checkpoints(), RunPictures(), Progress(metrics)])
        last = closing(patience, HUNG)  # the watchdog has ended, and a disk may hang still
        run.folder.note("complete" if done else "stopped", step=run.completed, signal=run.stopped_by)
        if run.ctx.is_main:
            print(_closing(config, done, run.completed), flush=True)
        distributed.barrier()  # some launchers kill the other ranks when one exits, and rank 0 has been saving
        # Ctrl-C gets the status that shells give it; any other stop gets 75 (EX_TEMPFAIL): start the command again
        status = COMPLETE if done else INTERRUPTED if run.stopped_by == "SIGINT" else STOPPED
        return RunResult(Path(config.output), run.completed, done, status)
    finally:
        if last is not None:
            last.cancel()
        last = closing(patience, status)
        close(run)
        last.cancel()


CLOSING = 60.0
"""Seconds that a run, which has ended, may take to let go of a disk or a network that hangs."""


class _Nothing:
    def cancel(self) -> None:
        """There is nothing to cancel."""


def _stay(seconds: float, status: int) -> _Nothing:
    """In a notebook closing a run may take as long as it must: the process has other work."""
    sys.stdout.flush()
    return _Nothing()


def _probes(config: Config, metrics: "Metrics") -> list["Hook"]:
    if not config.probe.every_steps:
        return []
    from fra_dist.eval.during import Probes  # scikit-learn and SciPy, which most runs do without

    return [Probes(metrics)]


def _opening(config: Config, completed: int, total: int, world: int, device: str) -> str:
    steps = plural(total, "step")
    if completed >= total:
        return f"{config.output}: {'the one step is' if total == 1 else f'all {steps} are'} done already"
    begin = f"resuming after step {completed}" if completed else "starting"
    return f"{config.output}: {begin}, {steps}, {plural(world, 'rank')} on {device}"


def _closing(config: Config, done: bool, completed: int) -> str:
    """What to type next, after the run is complete or stopped."""
    run = shlex.quote(str(config.output))
    if not done:
        return (
            f"stopped and saved at step {completed}: the same command resumes from there\n"
            f"  fra-dist status {run}   how it stands"
        )
    lines = [f"complete: {Path(config.output) / 'checkpoints'} holds the weights"]
    if config.model.decoder is not None:
        lines.append(f"  fra-dist heatmaps {run} PHOTOS --out pictures   regions in your photos")
    lines.append(f"  fra-dist report {run}   curves, pictures and settings on one page")
    lines.append(f"  fra-dist embed --checkpoint {run} --data PHOTOS --out embeddings")
    lines.append(f"  fra-dist export {run} --out face.safetensors   the network for other code")
    return "\n".join(lines)
