"""`fra-dist launch slurm`: submit a run to SLURM."""

import argparse
import sys
from dataclasses import replace
from typing import TYPE_CHECKING

from fra_dist.cli.line import arguments
from fra_dist.errors import LaunchError

if TYPE_CHECKING:
    from fra_dist.launch.slurm import Resources


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `fra-dist launch slurm` to its parser."""
    add = parser.add_argument
    add("--nodes", type=arguments.count, default=1, help="machines of one job")
    add("--gpus-per-node", type=arguments.count, help="one rank a GPU")
    add("--ranks-per-node", type=arguments.count, help="without GPUs: ranks on each node (default 1)")
    add("--cpus-per-task", type=arguments.count, help="CPUs of one rank (default: data.threads and one more)")
    add("--gpu-memory", type=float, metavar="GB", help="of each GPU, to check before submission that a rank fits")
    add("--time", help="time limit of one job, minutes or [D-]HH:MM:SS; the run resumes in a requeued job")
    for name in ("partition", "account", "qos", "constraint", "exclude", "mem"):
        add(f"--{name}", help=f"as sbatch's --{name}")
    add("--sbatch", action="append", default=[], metavar="OPTION=VALUE", help="any further sbatch option; repeatable")
    add(
        "--setup", action="append", default=[], metavar="COMMAND", help="shell command before Python starts; repeatable"
    )
    add("--no-check", action="store_true", help="submit although shards or batch cannot be checked from this machine")
    add("--signal-lead", type=arguments.count, default=120, help="seconds before the time limit at which the run saves")
    add("--max-failures", type=int, default=3, help="failures in a row without a newer checkpoint")
    add("--follow", action="store_true", help="show the log and the progress until the run ends")


def run(args: argparse.Namespace) -> int:
    """Submit the run. Exit status 0: submitted (or complete, with --follow); 75 or 1: how the followed run ended."""
    from fra_dist.launch.slurm import batch_script, job_commands, submit
    from fra_dist.launch.trainer_command import prepare_launch

    resources = _resources(args)
    if args.doctor:
        return _doctor(args, resources)
    launch = prepare_launch(args.config, args.overrides, args.max_failures, write=False)
    resources, notes = _checked(args, resources)
    for note in notes:
        print(note, file=sys.stderr, flush=True)
    if args.dry_run:
        print(f"{batch_script(launch, resources)}\n{job_commands(launch, resources)}")
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


def _checked(args: argparse.Namespace, resources: "Resources") -> tuple["Resources", list[str]]:
    """The resources with what was not given, and notes for the user. Raises what would end the job at its start."""
    from fra_dist.config import load_config
    from fra_dist.launch.checks.before_launch import check_memory, check_run, memory_of_text

    config = load_config(args.config, args.overrides)
    sizes = None if args.no_check else check_run(config, [resources.nodes * resources.tasks_per_node])
    notes, gpu = [], bool(resources.gpus_per_node)
    limit = args.gpu_memory * 1e9 if gpu and args.gpu_memory else None
    if not gpu and resources.mem:
        limit = memory_of_text(resources.mem) / resources.tasks_per_node
    if sizes is not None and (gpu or limit is not None):
        notes.append(f"note: {check_memory(config, sizes, limit, gpu, 'its GPU' if gpu else 'its share of --mem')}")
    if resources.cpus_per_task is None:
        resources = replace(resources, cpus_per_task=config.data.threads + 1)
        notes.append(f"note: --cpus-per-task={resources.cpus_per_task}: data.threads={config.data.threads} and one")
    if resources.time is None:
        notes.append(
            "warning: no --time: the partition's default limit counts, often an hour or less; the run then saves and "
            "waits in the queue again"
        )
    return resources, notes


def _doctor(args: argparse.Namespace, resources: "Resources") -> int:
    from fra_dist.cli.doctor import show_results
    from fra_dist.config import load_config
    from fra_dist.doctor.subject import Subject
    from fra_dist.launch.checks.doctor_nodes import examine_slurm
    from fra_dist.launch.trainer_command import absolute

    config = absolute(load_config(args.config, args.overrides))
    return show_results(
        examine_slurm(Subject.of(config, max(2, resources.tasks_per_node), args.quick), resources), args.json
    )


def _resources(args: argparse.Namespace) -> "Resources":
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
