"""`fra-dist convert SRC DST --to published|ours`: translate weights between the published names and ours."""

import argparse
from pathlib import Path


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("source", help="weights (.safetensors, .pth, .npz), or with --to published a checkpoint or run")
    parser.add_argument("destination", help="file to write; its suffix chooses the format")
    parser.add_argument("--to", choices=("published", "ours"), required=True, help="whose names to write")
    parser.add_argument("--prefix", default="", help="take only names that start with this, and take it off")


def run(args: argparse.Namespace) -> int:
    from fra_dist.export.published_names import from_published, to_published
    from fra_dist.export.weight_files import read_tensors, write_tensors
    from fra_dist.train.checkpoints.reading import find_checkpoint

    if args.to == "published":
        folder = Path(args.source).is_dir()
        state = find_checkpoint(args.source).model() if folder else read_tensors(args.source, args.prefix)
        converted = to_published(state)
    else:
        converted = from_published(read_tensors(args.source, args.prefix))
    write_tensors(args.destination, converted)
    print(f"wrote {len(converted)} tensors to {args.destination}")
    return 0
