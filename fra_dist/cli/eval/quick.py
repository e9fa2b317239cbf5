"""`fra-dist eval CHECKPOINT --data LABELLED_SHARDS`: a quick look at what a checkpoint learned.

Prints two tables, regions and frozen features, beside an untrained network of the same kind and what needs no network
at all; `--out` writes everything as JSON.
"""

import argparse
import json
from pathlib import Path
from typing import Any

from fra_dist.errors import ConfigError, DataError
from fra_dist.eval.settings import TASKS

LIMIT = 2000


def run_quick(args: argparse.Namespace) -> int:
    """Raises CheckpointError or DataError when the checkpoint, the shards or the output cannot be used."""
    import torch

    from fra_dist.eval.labelled import read_labelled
    from fra_dist.eval.score_table import as_text, probe_table, region_table
    from fra_dist.eval.suite import evaluate, floors
    from fra_dist.models.fra import FRA
    from fra_dist.train.checkpoints.reading import load_model
    from fra_dist.train.run_dir.folder import versions

    if args.data is None:
        raise ConfigError(
            f"{args.what!r} is neither a task ({', '.join(TASKS)}, all) nor, without --data, a checkpoint to look at"
        )
    out = Path(args.out) if args.out else None
    if out is not None and (out.is_dir() or not out.parent.is_dir()):
        raise DataError(f"cannot write {out}: give a file in a folder that exists")
    model, config, info = load_model(args.what)
    labelled = read_labelled(args.data, config.data.image_size, args.limit or LIMIT)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    networks = {config.name: model.online}
    if not args.alone:
        torch.manual_seed(args.seed)
        networks["untrained"] = FRA(config.model).eval().online
    scores = [evaluate(name, net.to(device), labelled, config, args.seed) for name, net in networks.items()]
    if not args.alone:
        scores.append(floors(labelled, config.model.regions, args.seed))
    print(f"{info['path']}, step {info['step']}, {len(labelled)} photos\n")
    for table in (region_table(scores), probe_table(scores)):
        if table.rows:
            print(as_text(table), end="\n\n")
    if out is not None:
        result = {
            "checkpoint": info["path"],
            "step": info["step"],
            "data": args.data,
            "photos": len(labelled),
            "seed": args.seed,
            "scores": [one.to_json() for one in scores],
            "versions": versions(device),
        }
        _write(out, result)
        print(out)
    return 0


def _write(path: Path, result: dict[str, Any]) -> None:
    try:
        path.write_text(json.dumps(result, indent=1))
    except OSError as error:
        raise DataError(f"cannot write {path}: {error.strerror}") from None
