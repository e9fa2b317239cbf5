"""FRA, BYOL and FRA with parts left out, changed or added, pre-trained alike on real faces and measured alike.

    python benchmarks/study.py --faces DIR --plan tiny_32000 --threads 1 --budget 60
    python benchmarks/study.py --faces DIR --size tiny --seeds 0,1,2 --only fra,byol
    python benchmarks/study.py --table --plan tiny_32000                          # what is known so far

DIR holds pretrain_* (tars or folders of photos) and the labelled sets landmarks68, attributes, expression and regions
(tars or folders with labels.csv; docs/evaluation.md, data set `csv`). The runs: configs/study/variants.yaml,
an untrained network, and grey pixels without a network. A plan (configs/study/plans.yaml) names a size, a budget,
variants and seeds; options given beside it win. With --part val nothing of the test parts is read: scores are of the
validation parts, and readers are chosen on another share of the training parts.

A run is a folder of WORK; one that is done is passed over, one that was stopped resumes, so the same command continues
on another day. After --budget minutes, or at SIGTERM, nothing new starts, and the run in progress saves itself and
stops. Each run adds a row to OUT/study.jsonl.
"""

import argparse
import signal
import sys
import time
from pathlib import Path

import torch
from study_faces import labelled_sets, pretraining_shards
from study_plans import SIZES, config_of, names, plans, variants
from study_runs import Study, run_all
from study_table import tables

from fra_dist.errors import ConfigError, FraError
from fra_dist.exit_status import STOPPED


def main() -> int:
    try:
        args = _arguments()
        unknown = [name for name in args.only if name not in names()]
        if unknown:
            raise ConfigError(f"--only {unknown[0]} is not one of {', '.join(names())}")
        for variant in set(args.only) & set(variants()):
            config_of(args.size, variant, 0, args.overrides)  # before an hour is spent
        if not args.table:
            signal.signal(signal.SIGTERM, lambda *_: sys.exit(STOPPED))  # the run in progress saves itself first
            if args.threads is not None:
                torch.set_num_threads(args.threads)
            ends = time.monotonic() + 60 * args.budget
            shards = pretraining_shards(args.faces, args.work, args.threads)
            run_all(Study(args, ends, labelled_sets(args.faces, args.work), shards))
        steps = args.steps or config_of(args.size, "fra", 0, args.overrides).train.steps
        print(tables(args.out / "study.jsonl", args.size, steps, args.part, args.overrides))
    except FraError as error:
        print(f"study: {error}", file=sys.stderr)
        return 2
    return 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    every = names()
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="settings of every run")
    parser.add_argument("--faces", type=Path, metavar="DIR", help="folder of the faces")
    parser.add_argument("--plan", choices=list(plans()), help="options from configs/study/plans.yaml")
    parser.add_argument("--size", choices=SIZES, default="tiny")
    parser.add_argument("--only", type=_words, default=every, metavar="A,B", help=f"of {', '.join(every)}")
    parser.add_argument("--seeds", type=_whole, default=[0, 1, 2], metavar="N,N", help="(0,1,2)")
    parser.add_argument("--steps", type=int, help="of every run, instead of what the size says")
    parser.add_argument("--part", choices=("test", "val"), default="test", help="that scores are of (%(default)s)")
    parser.add_argument("--budget", type=float, default=float("inf"), metavar="MINUTES")
    parser.add_argument("--threads", type=int, help="of the arithmetic and of the input")
    parser.add_argument("--labels", type=_whole, metavar="P,P", help="percent, for all tasks, for small labelled sets")
    parser.add_argument("--work", type=Path, default=Path("runs/study"), help="(%(default)s)")
    parser.add_argument(
        "--out", type=Path, default=Path("benchmarks/results"), help="folder of study.jsonl (%(default)s)"
    )
    parser.add_argument("--table", action="store_true", help="only print the tables")
    chosen = parser.parse_known_args()[0].plan
    if chosen is not None:
        parser.set_defaults(**plans()[chosen])
    args = parser.parse_args()
    if args.faces is None and not args.table:
        parser.error("--faces is needed")
    return args


def _words(text: str) -> list[str]:
    return text.split(",")


def _whole(text: str) -> list[int]:
    return [int(word) for word in text.split(",")]


if __name__ == "__main__":
    sys.exit(main())
