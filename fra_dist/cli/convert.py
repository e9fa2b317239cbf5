"""`fra-dist convert SRC DST --to published|ours`: translate weights between the published names and ours."""

import argparse
from pathlib import Path

from fra_dist.errors import CheckpointError
from fra_dist.files import exists, is_folder


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `fra-dist convert` to its parser."""
    parser.add_argument("source", help="weights (.safetensors, .pth, .npz), or with --to published a checkpoint or run")
    parser.add_argument("destination", help="file to write; its suffix chooses the format")
    parser.add_argument("--to", choices=("published", "ours"), required=True, help="whose names to write")
    parser.add_argument("--overwrite", "--force", action="store_true", help="replace the file if it is there")
    parser.add_argument("--prefix", default="", help="take only names that start with this, and take it off")


def run(args: argparse.Namespace) -> int:
    """Translate a file of weights and write the result. Raises CheckpointError when that cannot be done."""
    if not exists(Path(args.source)):  # before torch, whose import takes seconds
        raise CheckpointError(f"no weights at {args.source}: no such file or folder")
    from fra_dist.export.folders import model_facts
    from fra_dist.export.places import refuse_to_replace
    from fra_dist.export.weight_files import write_weight_file
    from fra_dist.layouts.published_names import from_published, to_published, without_counterpart
    from fra_dist.layouts.reading import read_file, under_prefix
    from fra_dist.train.checkpoints.reading import find_checkpoint

    refuse_to_replace(Path(args.destination), args.overwrite)
    if args.to == "published" and is_folder(Path(args.source)):
        found = find_checkpoint(args.source)
        state, facts = found.model(), model_facts(found.config, "online", found.step)
    else:
        file = read_file(args.source)
        state, facts = under_prefix(args.source, file, args.prefix), dict(file.facts or {})
    published = args.to == "published"
    converted = to_published(state) if published else from_published(state)
    note = without_counterpart(state) if published else None
    write_weight_file(args.destination, converted, facts)
    print(f"wrote {len(converted)} tensors to {args.destination}")
    if note is not None:
        print(f"note: {note}")
    return 0
