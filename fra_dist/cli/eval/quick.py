"""`fra-dist eval CHECKPOINT --data LABELLED_SHARDS`: a quick look at what a checkpoint learned.

Prints two tables, regions and frozen features, beside an untrained network of the same kind, pixels, and what needs no
network at all; `--out` writes everything as JSON.
"""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fra_dist import files
from fra_dist.data.shards.manifest import refuse_missing
from fra_dist.errors import ConfigError, DataError
from fra_dist.eval.task_names import TASKS
from fra_dist.files import is_folder
from fra_dist.layouts.shipped_weights import refuse_missing_weights

if TYPE_CHECKING:
    from fra_dist.eval.quick_look import Look

LIMIT = 2000


def run_quick(args: argparse.Namespace, documents: list[dict[str, Any]]) -> int:
    """Print what was measured as tables and append all of it to `documents`.

    Raises CheckpointError or DataError when the checkpoint, the shards or the output cannot be used.
    """
    if args.data is None:
        raise ConfigError(
            f"{args.what!r} is neither a task ({', '.join(TASKS)}, all) nor, without --data, a checkpoint to look at"
        )
    refuse_missing_weights(args.what)  # before torch, whose import takes seconds
    refuse_missing(args.data)
    out = Path(args.out) if args.out else None
    if out is not None and (is_folder(out) or not is_folder(out.parent)):
        raise DataError(f"cannot write {out}: give a file in a folder that exists")
    from fra_dist.cli.eval.tasks import cache_of, chosen_beside
    from fra_dist.eval.datasets import labelled_shards
    from fra_dist.eval.features.networks import on_device, open_encoder
    from fra_dist.eval.quick_look import (
        look_at,
        look_at_baselines,
        look_at_guesses,
        prepare_to_look,
        quick_settings,
    )
    from fra_dist.eval.regions.segmenters import regions_of
    from fra_dist.train.run_dir.folder import versions

    beside = chosen_beside(args)
    encoder = on_device(open_encoder(args.what, args.image_size, args.normalise, args.target))
    faces = labelled_shards.read(Path(args.data), args.limit or LIMIT)
    cache = cache_of(args)
    prepared = prepare_to_look(faces, encoder.size, args.seed, cache)
    settings = quick_settings(args.seed, regions_of(encoder, args.regions or 8))
    looks = [look_at(encoder, prepared, settings, cache)]
    looks += look_at_baselines(encoder, prepared, settings, cache, beside)
    if not args.alone:
        looks.append(look_at_guesses(encoder, prepared, settings, cache))
    counts = prepared.describe()["faces"]
    parts = ", ".join(f"{count} {split}" for split, count in counts.items())
    step = f", step {encoder.about['step']}" if "step" in encoder.about else ""
    print(f"{encoder.about['checkpoint']}{step}, {len(prepared)} photos ({parts})\n")
    _show(looks)
    document = {
        "network": encoder.describe(),
        "dataset": prepared.describe(),
        "settings": settings.model_dump(mode="json"),
        "looks": [look.to_json() for look in looks],
        "versions": versions(encoder.device),
    }
    documents.append(document)
    if out is not None:
        _write(out, document)
        print(out)
    return 0


def _show(looks: Sequence["Look"]) -> None:
    from fra_dist.eval.score_table import as_text, read_table, region_table

    for table in (region_table(looks), read_table(looks)):
        if table.rows:
            print(as_text(table), end="\n\n")
    for look in looks:
        for task, why in look.left_out.items():
            print(f"{look.name}: {task} was not measured: {why}")
    spent = ", ".join(f"{look.name} {look.seconds:.1f} s" for look in looks)
    print(f"measured in {spent}; --beside, --alone\n")


def _write(path: Path, document: dict[str, Any]) -> None:
    try:
        files.write_whole(path, json.dumps(document, indent=1, allow_nan=False) + "\n")
    except OSError as error:
        raise files.failure(error, f"cannot write {path}", DataError) from None
