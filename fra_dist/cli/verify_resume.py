"""`fra-dist verify-resume CONFIG key=value ...`: is a stopped run the same as one that was left alone?"""

import argparse
import contextlib
import tempfile
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fra_dist.cli.line.json_output import add_json, print_json, told_aside
from fra_dist.errors import LaunchError
from fra_dist.files import exists

if TYPE_CHECKING:
    from fra_dist.config import Config


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `fra-dist verify-resume` to its parser."""
    parser.add_argument("config", help="YAML file; its output folder is not touched")
    parser.add_argument(
        "overrides", nargs="*", default=[], metavar="key=value", help="for example train.global_batch=64"
    )
    parser.add_argument("--stops", type=int, default=3, metavar="N", help="how often it is stopped (default 3)")
    parser.add_argument("--steps", type=int, default=40, metavar="S", help="at most so many steps (default 40)")
    parser.add_argument("--seed", type=int, default=0, help="of the steps and means of the stops")
    parser.add_argument(
        "--world", default="1", metavar="A[:B]", help="ranks on this machine; A:B: begin with A, resume once with B"
    )
    parser.add_argument(
        "--keep", type=Path, metavar="DIR", help="a new folder for both runs, instead of a temporary one"
    )
    add_json(parser, "whether both are the same, the stops and each difference")


def run(args: argparse.Namespace) -> int:
    """Train once undisturbed and once with stops, and compare. Exit status 0: the same; 1: not; 2: bad input.

    The first difference is printed.
    """
    with told_aside(args.json):
        document = _compare(args)
    if args.json:
        print_json(document)
    return 0 if document["same"] else 1


def _compare(args: argparse.Namespace) -> dict[str, Any]:
    from fra_dist.config import load_config
    from fra_dist.train.inputs.missing import refuse_missing_inputs

    config = load_config(args.config, args.overrides)
    refuse_missing_inputs(config, resumes=False)  # before torch, whose import takes seconds
    first, second = _worlds(args.world)
    from fra_dist.launch.resume_trial import PlannedStop, TrialRun, draw_stops, resume_trial_config
    from fra_dist.launch.resume_verdict import compare_runs, near
    from fra_dist.train.sizes import share_of_rank

    if args.steps < 4 or args.stops < 1:
        raise LaunchError("give at least --steps 4 and --stops 1")
    config = resume_trial_config(_comparable(config, elastic=first != second), args.steps)
    for world in (first, second):
        share_of_rank(config, world)
    steps = config.train.steps or 0
    stops = draw_stops(args.stops if first == second else 1, steps, args.seed)
    with _folder(args.keep) as folder:
        left_alone, stopped = (TrialRun(folder, name, config, _say) for name in ("undisturbed", "stopped"))
        left_alone.complete(first)
        if first != second:
            stopped.stop(PlannedStop(stops[0].step, stops[0].means), first)
            stopped.complete(second)
            resumed = stopped.resumed_from()
            verdict = near(left_alone.run, stopped.run, resumed, double=config.train.precision == "fp64")
        else:
            for stop in stops:
                stopped.stop(stop, first)
            stopped.complete(first)
            verdict = compare_runs(left_alone.run, stopped.run)
    for line in verdict.lines:
        _say(line)
    for fault in verdict.faults:
        _say(f"DIFFERENT: {fault}")
    if verdict.good:
        how = f"resumed with {second} instead of {first} ranks" if first != second else f"stopped {len(stops)} times"
        _say(f"verdict: the run that was {how} is the same" + (" to the bit" if first == second else ", to rounding"))
    else:
        _say("verdict: not the same")
    return {
        "same": verdict.good,
        "to_the_bit": verdict.good and first == second,
        "ranks": [first, second],
        "steps": steps,
        "stops": [asdict(stop) for stop in stops],
        "compared": list(verdict.lines),
        "differences": list(verdict.faults),
    }


def _comparable(config: "Config", elastic: bool) -> "Config":
    """Where the arithmetic itself is not repeatable, ask for the kind that is; says so."""
    import torch

    if config.train.device != "cpu" and torch.cuda.is_available() and not config.train.deterministic:
        _say("on a GPU: with train.deterministic=true")
        config = config.model_copy(update={"train": config.train.model_copy(update={"deterministic": True})})
    if elastic and config.train.precision == "auto":
        _say("with train.precision=fp32: in bf16 another number of ranks rounds otherwise")
        config = config.model_copy(update={"train": config.train.model_copy(update={"precision": "fp32"})})
    if elastic and config.train.micro_batch:
        _say("with train.micro_batch, batch statistics depend on the number of ranks: differences are no fault then")
    return config


def _worlds(text: str) -> tuple[int, int]:
    first, sign, second = text.partition(":")
    if not first.isdigit() or (sign and not second.isdigit()) or int(first) < 1 or int(second or first) < 1:
        raise LaunchError(f"--world {text}: give a number of ranks, or A:B")
    return int(first), int(second or first)


@contextlib.contextmanager
def _folder(keep: Path | None) -> Iterator[Path]:
    if keep is None:
        with tempfile.TemporaryDirectory(prefix="fra-verify-resume-") as name:
            yield Path(name)
        return
    if exists(keep) and any(keep.iterdir()):
        raise LaunchError(f"--keep {keep} is not empty: name a new folder")
    yield keep.absolute()


def _say(text: str) -> None:
    print(text, flush=True)
