"""`fra-dist pretrain CONFIG key=value ...`: start a run, or resume it."""

import argparse
import shlex
from pathlib import Path
from typing import TYPE_CHECKING

from fra_dist.cli.line import arguments
from fra_dist.config import Config, load_config
from fra_dist.exit_status import COMPLETE, FAILED, INTERRUPTED, STOPPED
from fra_dist.train.liveness.bounded import leave_within

if TYPE_CHECKING:
    from fra_dist.train.hooks.metrics import Metrics
    from fra_dist.train.trainer import Hook

_CLOSING = 60.0
"""Seconds that a run, which has ended, may take to let go of a disk or a network that hangs."""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `fra-dist pretrain` to its parser."""
    parser.add_argument("config", help="YAML file, or the name of a shipped one: demo, debug_cpu, vggface2_r50")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="for example train.global_batch=256")
    parser.add_argument("--dry-run", action="store_true", help="print settings, sizes and estimates; train nothing")
    parser.add_argument("--force", action="store_true", help="resume a run although settings that matter changed")
    parser.add_argument(
        "--metrics-port",
        metavar="PORT",
        type=arguments.count,
        help="serve metrics for Prometheus on the loopback; log.metrics_host=0.0.0.0: to other machines",
    )
    parser.add_argument(
        "--profile",
        metavar="STEPS",
        type=arguments.count,
        help="write a trace of so many steps to RUN/profile, and a table of what takes time",
    )
    begin = parser.add_mutually_exclusive_group()
    begin.add_argument("--fresh", action="store_true", help="begin at step 0; what RUN holds is moved to RUN/former-N")
    begin.add_argument(
        "--from",
        dest="source",
        metavar="PATH",
        type=Path,
        help="resume from this checkpoint (or a run's newest good one) instead of the newest good one of RUN",
    )


def run(args: argparse.Namespace) -> int:
    """Start a run or resume it. Exit status 0: complete; 75: asked to stop and saved; 130: the same after Ctrl-C.

    After 75 and 130 the same command resumes the run.
    """
    port = [f"log.metrics_port={args.metrics_port}"] if args.metrics_port else []
    config = load_config(args.config, [*args.overrides, *port])
    if args.dry_run:
        from fra_dist.train.dry_run import describe_run

        found = describe_run(config)
        print(found.text, flush=True)
        if found.problem is not None:
            raise found.problem
        return 0
    from fra_dist import distributed

    status = FAILED
    try:
        status = pretrain(config, args.force, args.fresh, args.source, args.profile)
        return status
    finally:
        last = leave_within(_CLOSING, status)
        distributed.stop()
        last.cancel()


def pretrain(
    config: Config, force: bool = False, fresh: bool = False, source: Path | None = None, profile: int | None = None
) -> int:
    """Train, with pictures, until the run is complete or asked to stop. Returns the exit status that `run` describes.

    force: resume although settings that matter changed; fresh: start from step 0; source: the checkpoint to start from;
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
    status = FAILED
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
        run.folder.note("complete" if done else "stopped", step=run.completed, signal=run.stopped_by)
        if run.ctx.is_main:
            print(_closing(config, done, run.completed), flush=True)
        distributed.barrier()  # some launchers kill the other ranks when one exits, and rank 0 has been saving
        # Ctrl-C gets the status that shells give it; any other stop gets 75 (EX_TEMPFAIL): start the command again
        status = COMPLETE if done else INTERRUPTED if run.stopped_by == "SIGINT" else STOPPED
        return status
    finally:
        last = leave_within(_CLOSING + config.checkpoint.patience_seconds, status)
        close(run)
        last.cancel()


def _probes(config: Config, metrics: "Metrics") -> list["Hook"]:
    if not config.probe.every_steps:
        return []
    from fra_dist.eval.during import Probes  # scikit-learn and SciPy, which most runs do without

    return [Probes(metrics)]


def _opening(config: Config, completed: int, total: int, world: int, device: str) -> str:
    where = f"{world} rank{'s' if world > 1 else ''} on {device}"
    if completed >= total:
        return f"{config.output}: all {total} steps are done already"
    return f"{config.output}: {f'resuming after step {completed}' if completed else 'starting'}, {total} steps, {where}"


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
    lines.append(f"  fra-dist export {run} --format torchvision --out backbone.pth")
    return "\n".join(lines)
