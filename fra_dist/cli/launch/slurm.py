"""`fra-dist launch slurm`: submit a run to SLURM."""

import argparse

from fra_dist.cli import arguments
from fra_dist.errors import LaunchError


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `fra-dist launch slurm` to its parser."""
    add = parser.add_argument
    add("--nodes", type=arguments.count, default=1)
    add("--gpus-per-node", type=arguments.count, help="one rank a GPU")
    add("--ranks-per-node", type=arguments.count, help="without GPUs: ranks on each node (default 1)")
    add("--cpus-per-task", type=arguments.count, help="CPUs of one rank, its input threads included")
    add("--time", help="time limit of one job, minutes or [D-]HH:MM:SS; the run resumes in a requeued job")
    for name in ("partition", "account", "qos", "constraint", "exclude", "mem"):
        add(f"--{name}", help=f"as sbatch's --{name}")
    add("--sbatch", action="append", default=[], metavar="OPTION=VALUE", help="any further sbatch option; repeatable")
    add(
        "--setup", action="append", default=[], metavar="COMMAND", help="shell command before Python starts; repeatable"
    )
    add("--signal-lead", type=arguments.count, default=120, help="seconds before the time limit at which the run saves")
    add("--max-failures", type=int, default=3, help="failures in a row without a newer checkpoint")
    add("--follow", action="store_true", help="show the log and the progress until the run ends")
    add("--dry-run", action="store_true", help="print the batch script; submit nothing")


def run(args: argparse.Namespace) -> int:
    """Submit the run. Exit status 0: submitted (or complete, with --follow); 75 or 1: how the followed run ended."""
    from fra_dist.launch.slurm import batch_script, submit
    from fra_dist.launch.trainer_command import prepare_launch

    launch = prepare_launch(args.config, args.overrides, args.max_failures, write=False)
    resources = _resources(args)
    if args.dry_run:
        print(batch_script(launch, resources))
        return 0
    submitted = submit(launch, resources, lambda: prepare_launch(args.config, args.overrides, args.max_failures))
    print(f"job {submitted.job_id}\nrun {launch.run}\nlog {submitted.log}", flush=True)
    if not args.follow:
        return 0
    from fra_dist.launch.slurm_following import follow_job

    try:
        state = follow_job(launch.run, submitted)
    except KeyboardInterrupt:
        print(f"\nthe job continues; stop it with: scancel {submitted.job_id}")
        return 130
    print(f"fra-dist: {state}")
    return {"complete": 0, "stopped": 75}.get(state, 1)


def _resources(args: argparse.Namespace):  # type: ignore[no-untyped-def]
    from fra_dist.launch.slurm import Resources

    extra = {}
    for text in args.sbatch:
        name, sign, value = text.partition("=")
        if not name:
            raise LaunchError(f"--sbatch {text!r} is not of the form OPTION=VALUE")
        extra[name.lstrip("-")] = value if sign else True
    names = ("nodes", "gpus_per_node", "ranks_per_node", "cpus_per_task", "time", "partition", "account", "qos")
    names += ("constraint", "exclude", "mem", "signal_lead")  # type: ignore[assignment]
    return Resources(**{n: getattr(args, n) for n in names}, setup=tuple(args.setup), extra=extra)
