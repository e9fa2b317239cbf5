"""`fra-dist launch ray`: the driver that `ray job submit` starts."""

import argparse
import os
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from fra_dist.errors import LaunchError

if TYPE_CHECKING:
    from fra_dist.config import Config


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `fra-dist launch ray` to its parser."""
    add = parser.add_argument
    add("--workers", default="1", metavar="MIN:MAX", help="ranks; between two bounds the run is elastic")
    add("--gpus-per-worker", type=float, default=0, help="of one rank (default: 0, on the CPU)")
    add("--gpu-memory", type=float, metavar="GB", help="of each GPU, to check before the start that a rank fits")
    add("--cpus-per-worker", type=float, default=1, help="of one rank")
    add("--address", default="auto", help="of the Ray cluster; local: start one on this machine")
    add("--max-failures", type=int, default=3, help="failures in a row without a newer checkpoint")
    add("--grow-after", type=float, default=30, help="seconds before new workers are used, which takes a restart")


def run(args: argparse.Namespace) -> int:
    """Run the training on a Ray cluster. Exit status 0: complete; 75: stopped and saved; 1: given up.

    RUN/launch/state.json holds the same outcome.
    """
    from fra_dist.config import load_config
    from fra_dist.launch.checks.before_launch import check_memory, check_run
    from fra_dist.launch.trainer_command import prepare_launch
    from fra_dist.launch.world import Bounds, world_sizes

    config = load_config(args.config, args.overrides)
    _refuse_relative(config)
    if args.doctor:
        return _doctor(args, config)
    sizes = world_sizes(config, Bounds.parse(args.workers))
    found = check_run(config, sizes)
    if args.gpus_per_worker and (args.gpu_memory or args.dry_run):
        limit = args.gpu_memory * 1e9 if args.gpu_memory else None
        print(f"note: {check_memory(config, found, limit, True, 'its GPU')}", file=sys.stderr, flush=True)
    if args.dry_run:
        launch = prepare_launch(args.config, args.overrides, args.max_failures, write=False)
        print(f"workers: {', '.join(map(str, sizes))}\ntrainer of each: {shlex.join(launch.trainer)}")
        return 0
    launch = prepare_launch(args.config, args.overrides, args.max_failures)

    from fra_dist.launch.elastic import Pace, run_elastic
    from fra_dist.launch.ray_cluster import Cluster, Need
    from fra_dist.train.signals import StopFlag

    need = Need(args.cpus_per_worker, args.gpus_per_worker)
    with Cluster(args.address, need) as cluster, StopFlag() as stop:  # Ray sets its own handlers before ours
        return run_elastic(launch, cluster, sizes, Pace(grow_after=args.grow_after), stop)


def _doctor(args: argparse.Namespace, config: "Config") -> int:
    from fra_dist.cli.doctor import show_results
    from fra_dist.doctor import nodes
    from fra_dist.doctor.subject import Subject
    from fra_dist.launch.ray_cluster import Cluster, Need
    from fra_dist.launch.trainer_command import absolute

    subject = Subject.of(absolute(config), 2, args.quick)
    with Cluster(args.address, Need(args.cpus_per_worker, args.gpus_per_worker)) as cluster:
        lines = cluster.on_each_node(nodes.command(sys.executable, subject))
    return show_results(nodes.joined_hosts(nodes.read_lines(lines)), args.json)


def _refuse_relative(config: "Config") -> None:
    """A submitted job runs in a copy of the working directory that Ray deletes."""
    if "runtime_resources" not in os.getcwd():
        return
    for key, value in (
        ("output", config.output),
        ("data.shards", config.data.shards),
        ("data.photos", config.data.photos),
    ):
        if value and "://" not in value and not Path(value).is_absolute():
            raise LaunchError(
                f"{key}={value} would lie in Ray's copy of the working directory, which is deleted after the job: "
                f"give an absolute path on a file system that all nodes share"
            )
