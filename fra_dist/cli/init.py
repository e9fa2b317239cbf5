"""`fra-dist init DIR`: a folder with copies of the shipped configurations and launchers, to begin from."""

import argparse
from pathlib import Path


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `fra-dist init` to its parser."""
    parser.add_argument("folder", metavar="DIR", type=Path, help="where configs/ and launchers/ go; made if need be")


def run(args: argparse.Namespace) -> int:
    """Write the folder. Raises ConfigError when one of its files exists already."""
    from fra_dist.config.shipped import copy_shipped

    for path in copy_shipped(args.folder):
        print(path)
    print(f"next, in {args.folder}:")
    print("  fra-dist shards make synthetic:256 --out shards/debug")
    print("  fra-dist pretrain configs/debug_cpu.yaml")
    return 0
