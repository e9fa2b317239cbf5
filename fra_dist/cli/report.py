"""`fra-dist report RUN [RUN2 ...]`: one page about a run, or about several side by side."""

import argparse
from pathlib import Path


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `fra-dist report` to its parser."""
    parser.add_argument("folders", metavar="RUN", nargs="+", type=Path, help="run folders")
    parser.add_argument("--out", metavar="FILE.html", type=Path, help="default: report.html, of one run in its folder")
    parser.add_argument(
        "--eval",
        metavar="DIR",
        type=Path,
        action="append",
        default=[],
        help="results of `fra-dist eval --out`, beside those in RUN/eval; repeatable",
    )
    parser.add_argument(
        "--embeddings",
        metavar="DIR",
        type=Path,
        action="append",
        default=[],
        help="maps of `fra-dist embed --out`, beside those in RUN/embed; repeatable",
    )


def run(args: argparse.Namespace) -> int:
    """Write the page and print its path. Raises DataError for what is no run, or a file that cannot be written."""
    from fra_dist.report.run_files import refuse_no_map, refuse_no_results, refuse_no_run

    for folder in args.folders:
        refuse_no_run(folder)  # before torch, whose import takes seconds
    for folder in args.eval:
        refuse_no_results(folder)
    for folder in args.embeddings:
        refuse_no_map(folder)
    from fra_dist.report.run_report import write_run_report

    default = args.folders[0] / "report.html" if len(args.folders) == 1 else Path("report.html")
    print(write_run_report(args.folders, args.out or default, args.eval, args.embeddings))
    return 0
