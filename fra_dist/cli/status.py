"""`fra-dist status RUN`: one screen about a run, whichever launcher it has."""

import argparse
from pathlib import Path


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `fra-dist status` to its parser."""
    parser.add_argument("folder", metavar="RUN", help="the run folder", type=Path)


def run(args: argparse.Namespace) -> int:
    """Run `fra-dist status`: print one screen about the run in `args.folder`; returns 0."""
    from fra_dist.launch.run_status import overview

    print(overview(args.folder))
    return 0
