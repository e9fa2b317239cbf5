"""`fra-dist ckpt ls|show|verify|average|diff`: look into checkpoints, on any machine."""

import argparse
import importlib
from pathlib import Path

WAYS = {
    "ls": "the checkpoints of a run",
    "show": "what one checkpoint holds",
    "verify": "check sizes and checksums",
    "average": "write the mean of several checkpoints",
    "diff": "where two checkpoints differ",
}


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the sub-commands of `fra-dist ckpt` and their arguments to its parser."""
    ways = parser.add_subparsers(dest="way", required=True, metavar="WAY")
    subs = {}
    for name, summary in WAYS.items():
        subs[name] = ways.add_parser(name, help=summary, description=summary[0].upper() + summary[1:] + ".")
    place = "a run folder (its newest good checkpoint) or a checkpoint folder"
    subs["ls"].add_argument("path", type=Path, metavar="RUN", help="a run folder or its folder of checkpoints")
    for name in ("ls", "show", "verify", "diff"):
        subs[name].add_argument("--json", action="store_true", help="as JSON")
    subs["show"].add_argument("path", type=Path, metavar="PATH", help=place)
    subs["show"].add_argument("--config", action="store_true", help="also print every setting")
    subs["verify"].add_argument("path", type=Path, metavar="PATH", help="a run folder (all of it) or a checkpoint")
    subs["average"].add_argument("paths", type=Path, nargs="+", metavar="PATH", help="checkpoints, or one run folder")
    subs["average"].add_argument("--last", type=int, metavar="K", help="of a run folder: the last K (default: all)")
    subs["average"].add_argument(
        "--out", type=Path, required=True, help="a new checkpoint folder, or a new file that ends with .safetensors"
    )
    for name in ("first", "second"):
        subs["diff"].add_argument(name, type=Path, metavar=name.upper(), help=place)
    subs["diff"].add_argument("--all", action="store_true", help="every tensor that differs, not the first 20")


def run(args: argparse.Namespace) -> int:
    """Run one sub-command. Exit status 0: done; 1: `verify` found damage, or `diff` a difference; 2: bad input."""
    from fra_dist.train.checkpoints.reading import refuse_missing_checkpoint

    named = [args.first, args.second] if args.way == "diff" else args.paths if args.way == "average" else [args.path]
    for path in named:
        refuse_missing_checkpoint(path)  # before torch, whose import takes seconds
    module = importlib.import_module("fra_dist.cli.ckpt.actions")
    return int(getattr(module, args.way)(args))
