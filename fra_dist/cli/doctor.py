"""`fra-dist doctor [CONFIG key=value ...]`: whether everything that a run needs works on this machine."""

import argparse
import json
from collections.abc import Iterable
from typing import TYPE_CHECKING

from fra_dist.cli.line import arguments
from fra_dist.exit_status import COMPLETE, FAILED

if TYPE_CHECKING:
    from fra_dist.doctor.result import CheckResult


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `fra-dist doctor` to its parser."""
    parser.add_argument(
        "config", nargs="?", help="YAML file or shipped name: its run folder, shards and device are examined too"
    )
    parser.add_argument(
        "overrides", nargs="*", default=[], metavar="key=value", help="for example data.shards=shards/mine"
    )
    parser.add_argument("--ranks", type=arguments.count, default=2, help="local ranks that sum in a trial (default 2)")
    parser.add_argument("--quick", action="store_true", help="only the checks that take no time: no torch, no shards")
    parser.add_argument("--json", action="store_true", help="as JSON: verdict, counts and each check")
    parser.epilog = "Exit status: 0, also with warnings; 1 when a check failed; 2 for bad input."


def run(args: argparse.Namespace) -> int:
    """Print what each check found. Exit status 0: nothing failed; 1: a check failed."""
    from fra_dist.config import load_config
    from fra_dist.doctor.examine import examine
    from fra_dist.doctor.subject import Subject

    config = load_config(args.config, args.overrides) if args.config else None
    subject = Subject.of(config, args.ranks, args.quick) if config else Subject(ranks=args.ranks, quick=args.quick)
    return show_results(examine(subject), args.json)


def show_results(findings: Iterable["CheckResult"], as_json: bool) -> int:
    """Print findings, on a terminal or elsewhere each as soon as it is there, and return the exit status."""
    from fra_dist.doctor.examine import as_rows
    from fra_dist.doctor.screen import coloured, count_line, lines_of

    found: list[CheckResult] = []
    for one in findings:
        found.append(one)
        if not as_json:
            print("\n".join(lines_of([one], colour=coloured())), flush=True)
    verdicts = {one.verdict for one in found}
    if as_json:
        worst = next((word for word in ("fail", "warn") if word in verdicts), "ok")
        print(json.dumps({"verdict": worst, "checks": as_rows(found)}, indent=1))
    else:
        print(count_line(found))
    return FAILED if "fail" in verdicts else COMPLETE
