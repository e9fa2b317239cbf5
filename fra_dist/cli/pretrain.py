"""`fra-dist pretrain CONFIG key=value ...`: start a run, or resume it."""

import argparse
import os
from pathlib import Path
from typing import TYPE_CHECKING

from fra_dist.cli.line import arguments
from fra_dist.exit_status import FAILED

if TYPE_CHECKING:
    from fra_dist.config import Config


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `fra-dist pretrain` to its parser."""
    parser.add_argument("config", help="YAML file, or the name of a shipped one: demo, debug_cpu, vggface2_r50")
    parser.add_argument(
        "overrides", nargs="*", default=[], metavar="key=value", help="for example train.global_batch=256"
    )
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
    from fra_dist.config import load_config

    port = [f"log.metrics_port={args.metrics_port}"] if args.metrics_port else []
    config = load_config(args.config, [*args.overrides, *port])
    if os.environ.get("WORLD_SIZE", "1") == "1":  # of several ranks the first asks, later
        _refuse_missing(config, args)
    if args.dry_run:
        from fra_dist.train.dry_run import describe_run

        found = describe_run(config)
        print(found.text, flush=True)
        if found.problem is not None:
            raise found.problem
        return 0
    from fra_dist import distributed
    from fra_dist.api.pretraining import CLOSING, run_to_end
    from fra_dist.train.liveness.bounded import leave_within

    status = FAILED
    try:
        status = run_to_end(config, args.force, args.fresh, args.source, profile=args.profile).status
        return status
    finally:
        last = leave_within(CLOSING, status)
        distributed.stop()
        last.cancel()


def _refuse_missing(config: "Config", args: argparse.Namespace) -> None:
    """Refuse paths that are not there, and a metric that will not be, before torch is imported, which takes seconds."""
    from fra_dist.train.checkpoints.best_metric import refuse_unknown_metric
    from fra_dist.train.checkpoints.reading import refuse_missing_checkpoint
    from fra_dist.train.inputs.missing import refuse_missing_inputs

    refuse_unknown_metric(config)
    if args.source is not None:
        refuse_missing_checkpoint(args.source)
    if args.dry_run:  # describes a run also before there are shards
        config = config.model_copy(update={"data": config.data.model_copy(update={"shards": ""})})
    refuse_missing_inputs(config, resumes=not args.fresh)
