"""`fra-dist init DIR`: a folder with copies of the shipped configurations and launchers, to begin from."""

import argparse
from pathlib import Path


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folder", metavar="DIR", type=Path, help="where configs/ and launchers/ go; made if need be")


def run(args: argparse.Namespace) -> int:
    """0: written; raises ConfigError when a file of them exists already."""
    from fra_dist.config.shipped import copy_shipped

    for path in copy_shipped(args.folder):
        print(path)
    print(f"next, in {args.folder}:")
    print("  fra-dist shards make synthetic:256 --out shards/debug")
    print("  fra-dist pretrain configs/debug_cpu.yaml")
    return 0
