"""`fra-dist launch slurm|ray|torchrun --config CONFIG ... key=value`: start a run that survives faults."""

import argparse
import importlib

WAYS = {
    "slurm": "submit to SLURM, through submitit",
    "ray": "run on a Ray cluster; what `ray job submit` starts",
    "torchrun": "run on this machine, or as one node of several, under torchrun",
}


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the sub-commands of `fra-dist launch` and their arguments to its parser."""
    ways = parser.add_subparsers(dest="way", required=True, metavar="WAY")
    for name, summary in WAYS.items():
        sub = ways.add_parser(name, help=summary, description=summary[0].upper() + summary[1:] + ".")
        sub.add_argument(
            "--config", required=True, help="YAML file, or the name of a shipped one, for example vggface2_r50"
        )
        sub.add_argument(
            "overrides", nargs="*", default=[], metavar="key=value", help="for example train.global_batch=256"
        )
        sub.add_argument(
            "--doctor", action="store_true", help="start no run, but `fra-dist doctor` on every node that it would use"
        )
        sub.add_argument("--dry-run", action="store_true", help="check and print what would be started; start nothing")
        sub.add_argument("--quick", action="store_true", help="with --doctor: only the checks that take a moment")
        sub.add_argument("--json", action="store_true", help="with --doctor: as JSON")
        importlib.import_module(f"fra_dist.cli.launch.{name}").configure(sub)


def run(args: argparse.Namespace) -> int:
    """Start a run by the launcher chosen.

    Exit status 0: complete or submitted; 75: stopped and saved; 2: bad input; 1: failed.
    """
    return int(importlib.import_module(f"fra_dist.cli.launch.{args.way}").run(args))
