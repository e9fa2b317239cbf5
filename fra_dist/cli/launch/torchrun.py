"""`fra-dist launch torchrun`: ranks on this machine, or this machine as one node of several."""

import argparse
import shlex
import sys
from pathlib import Path

from fra_dist.errors import LaunchError


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `fra-dist launch torchrun` to its parser."""
    add = parser.add_argument
    add("--ranks-per-node", default="auto", help="a number, or auto (default): one a GPU, one on a machine without")
    add("--nodes", default="1", help="a number, or MIN:MAX for an elastic run")
    add("--rendezvous", metavar="HOST:PORT", help="of one of the nodes; the same on every node")
    add("--run-id", default="fra", help="the same on every node of a run")
    add("--max-restarts", type=int, default=3, help="of all ranks after one has failed")


def run(args: argparse.Namespace) -> int:
    """Run the training under torchrun. Exit status 0: complete; 75: stopped and saved; otherwise torchrun's own."""
    from fra_dist.config import load_config
    from fra_dist.launch.checks.before_launch import check_memory, check_run, memory_here
    from fra_dist.launch.torchrun import Topology, need_meeting, run_torchrun, torchrun_words
    from fra_dist.launch.trainer_command import Launch, trainer_command
    from fra_dist.launch.world import Bounds, world_sizes
    from fra_dist.train.inputs.missing import refuse_missing_inputs

    if args.doctor:
        from fra_dist.cli.doctor import show_results
        from fra_dist.doctor.examine import examine
        from fra_dist.doctor.subject import Subject

        found = load_config(args.config, args.overrides)
        return show_results(examine(Subject.of(found, max(2, _ranks(args.ranks_per_node)), args.quick)), args.json)
    config = load_config(args.config, args.overrides)
    need_meeting(args.nodes, args.rendezvous)
    refuse_missing_inputs(config)  # before GPUs are counted with torch, whose import takes seconds
    topology = Topology(_ranks(args.ranks_per_node), args.nodes, args.rendezvous, args.run_id, args.max_restarts)
    words = torchrun_words(topology)
    nodes = Bounds.parse(args.nodes, "--nodes")
    ranks = Bounds(nodes.low * topology.ranks_per_node, nodes.high * topology.ranks_per_node)
    sizes = check_run(config, [ranks.low] if nodes.low == nodes.high else world_sizes(config, ranks))
    trainer = trainer_command(args.config, args.overrides)
    if args.dry_run:
        limit, gpu, where = memory_here(topology.ranks_per_node)
        print(f"note: {check_memory(config, sizes, limit, gpu, where)}", file=sys.stderr, flush=True)
        print(f"{shlex.join(words)} -- \\\n  {shlex.join(trainer)}")
        return 0
    return run_torchrun(Launch(Path(config.output), trainer), topology)


def _ranks(text: str) -> int:
    if text.isdigit() and int(text) > 0:
        return int(text)
    if text != "auto":
        raise LaunchError(f"--ranks-per-node {text}: give a number above 0, or auto")
    import torch

    return torch.cuda.device_count() or 1
