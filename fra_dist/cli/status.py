"""`fra-dist status RUN ...`: one screen about each run, whichever launcher it has."""

import argparse
import json
import sys
import time
from pathlib import Path

from fra_dist.cli.line import arguments

_CLEAR = "\033[H\033[2J"


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `fra-dist status` to its parser."""
    parser.add_argument("folders", metavar="RUN", nargs="+", type=Path, help="run folders")
    parser.add_argument("--json", action="store_true", help="a JSON object a run, with everything that is known")
    parser.add_argument(
        "--watch", type=arguments.count, metavar="SECONDS", help="again every so many seconds, until no run is at work"
    )


def run(args: argparse.Namespace) -> int:
    """Print the screens, once or again and again. Exit status 0; 2: one of the folders is not a run."""
    from fra_dist.launch.status.run_facts import facts
    from fra_dist.launch.status.run_status import overview

    while True:
        if args.json:
            text = "\n".join(json.dumps(facts(folder)) for folder in args.folders)
        else:
            text = "\n\n".join(overview(folder) for folder in args.folders)
        if args.watch and sys.stdout.isatty() and not args.json:
            text = f"{_CLEAR}{text}"
        print(text, flush=True)
        if not args.watch or not any(_at_work(facts(folder)["state"]) for folder in args.folders):
            return 0
        time.sleep(args.watch)


def _at_work(state: str) -> bool:
    return state in ("running", "pending", "waiting", "between attempts")
