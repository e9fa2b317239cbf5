"""`fra-dist eval`: measure what a checkpoint learned.

fra-dist eval TASK --checkpoint RUN_OR_FILE --dataset NAME --data DIR [--out DIR]   one task on a labelled data set
fra-dist eval all SUITE.yaml [--checkpoint RUN_OR_FILE] [--out DIR]                 all tasks of a file
fra-dist eval miniature --dataset NAME --out DIR                                    a synthetic stand-in of a data set
fra-dist eval CHECKPOINT --data LABELLED_SHARDS [--out FILE]                        a quick look, on labelled shards
"""

import argparse
import difflib
from collections.abc import Callable
from typing import Any

from fra_dist.cli.line import arguments
from fra_dist.cli.line.any_order import RawHelpWithDefaults
from fra_dist.cli.line.json_output import add_json, print_json, told_aside
from fra_dist.errors import ConfigError
from fra_dist.eval.task_names import TASKS

_TUNED = ("epochs", "batch", "lr", "patience")
_OWN: dict[str, tuple[str, ...]] = {
    "expression": ("labels", "draws", "modes", "reader", *_TUNED),
    "attributes": ("labels", "draws", "modes", "reader", *_TUNED),
    "alignment": ("labels", "draws", "modes", "loss", "norm", *_TUNED),
    "verification": ("embedding",),
    "regions": ("regions",),
    "consistency": ("regions",),
}
"""Options of each task beside those that all of them have."""
_SUMMARIES = {
    "expression": "Expressions, from frozen features (or fine-tuned): accuracy and F1.",
    "attributes": "Attributes such as glasses or beard, from frozen features (or fine-tuned).",
    "alignment": "Landmarks, from frozen features (or fine-tuned): the normalised error, where lower is better.",
    "verification": "Whether two photos show the same person.",
    "regions": "Heatmaps against the true parts of a face.",
    "consistency": "Whether a region stays on the same part from face to face.",
}


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `fra-dist eval` to its parser; the help of a task leaves out the options of others."""
    _add_arguments(parser)
    task = next((word for word in getattr(parser, "words", ()) if word in _OWN), None)
    if task is None:
        return
    parser.usage = f"fra-dist eval {task} --checkpoint RUN_OR_FILE --dataset NAME --data DIR [options]"
    parser.description = _SUMMARIES[task]
    others = {name for names in _OWN.values() for name in names} - set(_OWN[task])
    for action in parser._actions:
        if action.dest in others or action.dest in ("what", "suite"):
            action.help = argparse.SUPPRESS


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.formatter_class = RawHelpWithDefaults
    parser.description = __doc__
    parser.add_argument("what", help=f"{', '.join(TASKS)}, all, miniature, or a checkpoint for a quick look")
    parser.add_argument("suite", nargs="?", help="with `all`: the suite file")
    parser.add_argument("--checkpoint", metavar="RUN_OR_FILE", help="run, weights, or random:resnet50")
    parser.add_argument(
        "--dataset", metavar="NAME", help="layout of the data: rafdb, celeba, wflw, csv, ..., or module:reader"
    )
    parser.add_argument("--data", metavar="DIR", help="folder of the data set; for a quick look: labelled shards")
    parser.add_argument("--out", metavar="PATH", help="folder for results (for a quick look: a JSON file)")
    add_json(parser, "what the result files hold; of a suite a list")
    parser.add_argument(
        "--limit", type=arguments.count, metavar="N", help="faces of each part at most (quick look: 2000 in all)"
    )
    parser.add_argument(
        "--seed", type=arguments.seed, default=0, help="of splits, draws, heads and intervals (default 0)"
    )
    parser.add_argument(
        "--beside",
        type=_words,
        metavar="B,B",
        help="of untrained, pixels: measured beside; none (default untrained,pixels)",
    )
    parser.add_argument("--alone", action="store_true", help="nothing beside; a quick look leaves out floors as well")
    group = parser.add_argument_group("tasks")
    group.add_argument("--labels", type=_numbers, metavar="P,P", help="percent of the labels (default 1,10,100)")
    group.add_argument("--draws", type=arguments.count, metavar="N", help="of the labels, below 100 %% (default 3)")
    group.add_argument("--modes", type=_words, metavar="M,M", help="of linear, knn, finetune (default linear,knn)")
    group.add_argument(
        "--reader", choices=("logistic", "ridge"), help="the linear reader of classes (default logistic)"
    )
    group.add_argument(
        "--loss", choices=("l1", "smooth_l1", "wing", "star"), help="of the landmark head (default star)"
    )
    group.add_argument(
        "--norm",
        choices=("inter_ocular", "inter_pupil", "diagonal"),
        help="of the alignment error (default: the first that the landmarks allow)",
    )
    group.add_argument("--embedding", choices=("pooled", "projected"), help="for verification (default pooled)")
    group.add_argument("--regions", type=arguments.count, metavar="Q", help="clusters without heatmaps (default 8)")
    tune = parser.add_argument_group("fine-tuning")
    tune.add_argument("--epochs", type=arguments.count, help="passes at most (default 100)")
    tune.add_argument("--batch", type=arguments.count, help="faces of a step (default 256)")
    tune.add_argument("--lr", type=float, help="learning rate (default 2e-4)")
    tune.add_argument("--patience", type=arguments.count, metavar="N", help="stop after N epochs without a better one")
    network = parser.add_argument_group("network")
    network.add_argument("--image-size", type=arguments.count, metavar="PX", help="side of faces (the network's own)")
    network.add_argument("--normalise", choices=("auto", "fra", "imagenet"), default="auto", help="mean and deviation")
    network.add_argument("--target", action="store_true", help="of ours: the target instead of the online network")
    cache = parser.add_argument_group("cache of cut faces and features")
    cache.add_argument("--cache", metavar="DIR", help="(default $FRA_DIST_CACHE or ~/.cache/fra_dist, folder eval)")
    cache.add_argument("--no-cache", action="store_true", help="keep nothing on disk")


def run(args: argparse.Namespace) -> int:
    """Raises ConfigError, CheckpointError or DataError for what cannot be used."""
    if args.suite is not None and args.what != "all":
        raise ConfigError(f"{args.suite!r} is one word too many: only `eval all` takes a second one")
    if args.checkpoint is not None and args.what not in (*TASKS, "all", "miniature"):
        near = difflib.get_close_matches(args.what, (*TASKS, "all"), 1, 0.6)
        meant = f" (did you mean {near[0]}?)" if near else ""
        raise ConfigError(f"{args.what!r} is no task{meant}: --checkpoint goes with one of {', '.join(TASKS)}, all")
    if args.what == "miniature":
        from fra_dist.cli.eval.tasks import make_miniature

        return make_miniature(args)
    documents: list[dict[str, Any]] = []
    with told_aside(args.json):
        status = _way(args.what)(args, documents)
    if args.json:
        print_json(documents if args.what == "all" else documents[0])
    return status


def _way(what: str) -> "Callable[[argparse.Namespace, list[dict[str, Any]]], int]":
    """What does a task, a suite or a quick look and appends its documents to a list."""
    if what not in TASKS and what != "all":
        from fra_dist.cli.eval.quick import run_quick

        return run_quick
    from fra_dist.cli.eval.tasks import run_one, run_suite

    return run_suite if what == "all" else run_one


def _numbers(text: str) -> list[float]:
    try:
        return [float(word) for word in text.split(",")]
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a list like 1,10,100") from None


def _words(text: str) -> list[str]:
    return text.split(",")
