"""`fra-dist replay RUN STEP`: one step of a run again, with an eye on every module."""

import argparse
from pathlib import Path


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `fra-dist replay` to its parser."""
    parser.add_argument("folder", metavar="RUN", type=Path, help="the run folder; it is not changed")
    parser.add_argument("step", type=int, help="as in metrics.jsonl and in RUN/guard/, from 1")


def run(args: argparse.Namespace) -> int:
    """Replay one step of a run and print what each module computed."""
    from fra_dist.report.run_files import refuse_no_run

    refuse_no_run(args.folder)  # before torch, whose import takes seconds
    from fra_dist import distributed
    from fra_dist.train.replay import replay

    try:
        for line in replay(args.folder, args.step):
            print(line, flush=True)
        return 0
    finally:
        distributed.stop()
