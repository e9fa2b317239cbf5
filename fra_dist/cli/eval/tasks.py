"""Tasks, suites and miniatures behind `fra-dist eval`."""

import argparse
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fra_dist.errors import ConfigError, DataError, FraError
from fra_dist.files import exists, failure
from fra_dist.layouts.shipped_weights import refuse_missing_weights

if TYPE_CHECKING:
    from fra_dist.eval.features.encoder import Encoder
    from fra_dist.eval.features.feature_cache import Cache
    from fra_dist.eval.settings import TaskEntry

TOLD = ("seed", "labels", "draws", "modes", "reader", "loss", "norm", "embedding", "regions", "limit")
TUNED = ("epochs", "batch", "lr", "patience")


def run_one(args: argparse.Namespace, documents: list[dict[str, Any]]) -> int:
    """One task, whose result is appended to `documents`. Raises ConfigError, CheckpointError or DataError."""
    for option in ("checkpoint", "dataset", "data"):
        if getattr(args, option) is None:
            raise ConfigError(f"{args.what} needs --{option}")
    refuse_missing_weights(args.checkpoint)  # before torch, whose import takes seconds
    from fra_dist.eval.datasets import find_reader, open_set

    find_reader(args.dataset)
    if not exists(Path(args.data)):
        open_set(args.dataset, args.data)  # says which of its files is missing
    from fra_dist.eval.features.networks import on_device, open_encoder
    from fra_dist.eval.results import settings_of
    from fra_dist.eval.settings import TaskEntry

    values: dict[str, Any] = {key: getattr(args, key) for key in TOLD}
    values["tune"] = {key: getattr(args, key) for key in TUNED if getattr(args, key) is not None}
    entry = TaskEntry(task=args.what, dataset=args.dataset, data=args.data, settings=settings_of(values))
    encoder = on_device(open_encoder(args.checkpoint, args.image_size, args.normalise, args.target))
    out = Path(args.out or f"eval/{args.what}-{args.dataset}")
    documents.append(_do(encoder, entry, cache_of(args), out, chosen_beside(args))[0])
    return 0


def run_suite(args: argparse.Namespace, documents: list[dict[str, Any]]) -> int:
    """Every task of a file, whose results are appended to `documents`; one that fails is reported and the others go on.

    Status 2 when any failed.
    """
    from fra_dist.eval.settings import load_suite

    if args.suite is None:
        raise ConfigError("all needs a suite file: fra-dist eval all SUITE.yaml")
    suite = load_suite(args.suite)
    checkpoint = args.checkpoint or suite.checkpoint
    if checkpoint is None:
        raise ConfigError(f"suite {args.suite} names no checkpoint: give --checkpoint")
    refuse_missing_weights(checkpoint)
    from fra_dist.eval.features.networks import on_device, open_encoder

    size = args.image_size or suite.image_size
    encoder = on_device(open_encoder(checkpoint, size, args.normalise, args.target))
    out, cache, rows, failed = Path(args.out or "eval"), cache_of(args), [], 0
    for entry in suite.tasks:
        name = entry.name or f"{entry.task}-{entry.dataset}"
        try:
            document, row = _do(encoder, entry, cache, out / name, chosen_beside(args))
            documents.append(document)
            rows.append(f"## {name}\n\n{row}")
        except FraError as error:
            failed += 1
            documents.append({"task": entry.task, "dataset": entry.dataset, "not_measured": str(error)})
            rows.append(f"## {name}\n\nnot measured: {error}\n")
            print(f"{name}: not measured: {error}\n")
    try:
        (out / "suite.md").write_text("\n".join(rows))
    except OSError as error:
        raise failure(error, f"cannot write {out / 'suite.md'}", DataError) from None
    print(out / "suite.md")
    return 2 if failed else 0


def chosen_beside(args: argparse.Namespace) -> tuple[str, ...]:
    """Baselines that were asked for: all by default. Raises ConfigError for an unknown one."""
    from fra_dist.eval.baselines import BESIDE

    if args.alone or args.beside == ["none"]:
        return ()
    wrong = [name for name in args.beside or () if name not in BESIDE]
    if wrong:
        raise ConfigError(f"--beside {wrong[0]} is not one of {', '.join(BESIDE)}, none")
    return BESIDE if args.beside is None else tuple(args.beside)


def make_miniature(args: argparse.Namespace) -> int:
    """A data set's layout with synthetic faces. Raises ConfigError or DataError."""
    from fra_dist.eval.miniatures import write_miniature

    for option in ("dataset", "out"):
        if getattr(args, option) is None:
            raise ConfigError(f"miniature needs --{option}")
    write_miniature(args.dataset, args.out, args.limit or 24, args.seed)
    print(f"wrote a miniature of {args.dataset} to {args.out}")
    return 0


def _do(
    encoder: "Encoder", entry: "TaskEntry", cache: "Cache", out: Path, beside: Sequence[str]
) -> tuple[dict[str, Any], str]:
    from fra_dist.api.evaluation import measure
    from fra_dist.eval.results import as_lines, scores_beside
    from fra_dist.eval.score_grid import OWN, as_columns, grid_of, with_beside

    found = measure(encoder, entry, cache, out, beside)
    result, document = found.result, found.document
    counts = document["dataset"]["faces"]
    parts = ", ".join(f"{count} {split}" for split, count in counts.items())
    print(f"{entry.task} on {entry.dataset} ({parts}): {encoder.name}, {document['seconds']} s")
    if result.grid:
        grid = with_beside(grid_of(result.scores, result.columns), scores_beside(document), OWN)
        print("\n".join(as_columns(grid)))
        print(f"± half of each interval: {document['intervals']}")
    else:
        print("\n".join(as_lines(result, result.columns, scores_beside(document))))
    if beside:
        spent = ", ".join(f"{name} {found['seconds']} s" for name, found in document["beside"].items())
        print(f"the baselines took {spent} (--beside none leaves them out)")
    print(f"{out / 'result.json'}\n")
    return document, (out / "row.md").read_text()


def cache_of(args: argparse.Namespace) -> "Cache":
    """Return the feature cache that the options ask for.

    --no-cache: none. Otherwise --cache, $FRA_DIST_CACHE/eval or ~/.cache/fra_dist/eval, whichever is given first.
    """
    from fra_dist.eval.features.feature_cache import Cache

    if args.no_cache:
        return Cache(None)
    given = os.environ.get("FRA_DIST_CACHE")
    default = Path(given) if given else Path.home() / ".cache" / "fra_dist"
    return Cache(Path(args.cache) if args.cache else default / "eval")
