"""`fra-dist shards ...`: make, index, check, stats, ls, view."""

import argparse
import io
import json
import sys
from pathlib import Path
from typing import Any

from fra_dist.cli.arguments import count
from fra_dist.cli.shards import make
from fra_dist.cli.shards.text import Bar, shards_line
from fra_dist.errors import ConfigError, DataError
from fra_dist.formats import plural

_SHOWN = 20


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the sub-commands of `fra-dist shards` and their arguments to its parser."""
    commands = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    make.configure(commands.add_parser("make", help="photos, or synthetic faces, to shards"))
    index = commands.add_parser("index", help="index WebDataset tars that others made")
    index.add_argument("folder", metavar="DIR", help="a folder of tars, or a pattern: DIR/train-{000000..000099}.tar")
    index.add_argument(
        "--image-ext",
        metavar="EXT",
        help="the image of a sample that counts, for example jpg or left.png; several (left.png,right.png), or all: "
        "each becomes a sample",
    )
    index.add_argument("--decode", action="store_true", help="decode every image and leave out those that fail")
    check = commands.add_parser("check", help="compare shards with their manifest; status 1 when anything is wrong")
    check.add_argument("folder", metavar="DIR")
    check.add_argument("--decode", default="100", metavar="all|N", help="images to decode, evenly spaced (default 100)")
    for command in (index, check):
        command.add_argument("--workers", type=count, metavar="N", help="processes; default: one a core")
    stats = commands.add_parser("stats", help="counts, sizes, and mean and std for the configuration")
    stats.add_argument("folder", metavar="DIR")
    stats.add_argument("--json", action="store_true", help="as JSON")
    ls = commands.add_parser("ls", help="list shards, or the samples of one")
    ls.add_argument("folder", metavar="DIR")
    ls.add_argument("--json", action="store_true", help="as JSON")
    ls.add_argument("shard", nargs="?", metavar="SHARD", help="file name or number of a shard")
    view = commands.add_parser("view", help="a contact sheet of photos")
    view.add_argument("folder", metavar="DIR")
    view.add_argument("--out", required=True, metavar="FILE.png")
    view.add_argument("--count", type=count, default=64, metavar="N", help="photos (default 64)")
    view.add_argument("--seed", type=int, help="draw them; default: evenly spaced over the set")
    view.add_argument("--tile", type=count, default=112, metavar="PX", help="side of a photo on the sheet")
    view.add_argument("--masks", action="store_true", help="with the regions of synthetic faces")


def run(args: argparse.Namespace) -> int:
    """Run one sub-command. Exit status 0: done; 1: `check` found something; 130: stopped by Ctrl-C."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # names of files need not be UTF-8
    actions = {"make": make.run, "index": _index, "check": _check, "stats": _stats, "ls": _ls, "view": _view}
    try:
        return actions[args.action](args)
    except KeyboardInterrupt:
        again = "; the same command resumes from there" if args.action == "make" else ""
        print(f"\nstopped{again}", file=sys.stderr)
        return 130


def _index(args: argparse.Namespace) -> int:
    from fra_dist.data.making.indexing import index_tars

    with Bar("shards") as bar:
        manifest, notes = index_tars(args.folder, args.image_ext, args.decode, args.workers, bar)
    print(shards_line(manifest))
    for note in notes[:_SHOWN]:
        print(f"note: {note}", file=sys.stderr)
    if len(notes) > _SHOWN:
        print(f"note: and {len(notes) - _SHOWN} more of the kind", file=sys.stderr)
    return 0


def _check(args: argparse.Namespace) -> int:
    from fra_dist.data.making.checking import check_shards
    from fra_dist.data.shards.manifest import load_manifest

    if args.decode != "all" and not args.decode.isdecimal():
        raise ConfigError(f"--decode is all or a number of images, not {args.decode!r}")
    manifest = load_manifest(args.folder, check_files=False)
    decode = None if args.decode == "all" else int(args.decode)
    wrong = 0
    with Bar("shards") as bar:
        for problem in check_shards(manifest, decode, args.workers, bar):
            wrong += 1
            bar.write(problem)
    decoded = manifest.total if decode is None else min(decode, manifest.total)
    size = f"{plural(len(manifest.shards), 'shard')}, {plural(manifest.total, 'sample')}, {decoded:,} decoded"
    print(f"{args.folder}: {size}: " + (plural(wrong, "problem") if wrong else "all is well"))
    return 1 if wrong else 0


def _stats(args: argparse.Namespace) -> int:
    from fra_dist.data.shards.manifest import load_manifest

    manifest = load_manifest(args.folder)
    if args.json:
        counts = {"shards": len(manifest.shards), "samples": manifest.total, "skipped": manifest.skipped}
        print(json.dumps({**counts, **manifest.stats}, indent=1))
        return 0
    stats: dict[str, Any] = dict(manifest.stats)
    print(shards_line(manifest))
    if "grey" in stats:
        print(f"grey: {stats['grey']}")
    columns = list(next((stats[n] for n in ("height", "width", "bytes") if stats.get(n)), {}))
    print(f"{'':8}" + "".join(f"{column:>9}" for column in columns))
    for name in ("height", "width", "bytes"):
        print(f"{name:8}" + "".join(f"{stats.get(name, {}).get(column, ''):>9}" for column in columns))
    if "mean" in stats and "std" in stats:
        print(f"data.mean='{_triple(stats['mean'])}' data.std='{_triple(stats['std'])}'   (from {stats.get('images')})")
    return 0


def _ls(args: argparse.Namespace) -> int:
    from fra_dist.data.shards.manifest import load_manifest

    manifest = load_manifest(args.folder, check_files=False)
    if args.shard is None and args.json:
        rows = [{"name": s.name, "samples": s.samples, "bytes": s.bytes, "first_id": s.start} for s in manifest.shards]
        print(json.dumps(rows, indent=1))
        return 0
    if args.shard is None:
        for shard in manifest.shards:
            print(f"{shard.name}\t{shard.samples} samples\t{shard.bytes} bytes\tfrom id {shard.start}")
        return 0
    names = [shard.name for shard in manifest.shards]
    # a file name comes before a number, so that a shard called "7" can be named; -1 is refused below
    number = names.index(args.shard) if args.shard in names else int(args.shard) if args.shard.isdecimal() else -1
    if not 0 <= number < len(names):
        raise DataError(f"{args.folder} has no shard {args.shard!r}: name one that ls lists, or 0 to {len(names) - 1}")
    listed = enumerate(manifest.index(number), manifest.shards[number].start)
    if args.json:
        facts = [
            {"id": sample, "key": manifest.where(sample)[1], **{n: int(row[n]) for n in ("width", "height", "length")}}
            for sample, row in listed
        ]
        print(json.dumps(facts, indent=1))
        return 0
    for sample, row in listed:
        print(f"{sample}\t{manifest.where(sample)[1]}\t{row['width']}x{row['height']}\t{row['length']} bytes")
    return 0


def _view(args: argparse.Namespace) -> int:
    from fra_dist.data.shards.contact_sheet import contact_sheet, save_sheet, sheet_ids
    from fra_dist.data.shards.manifest import load_manifest

    if args.seed is not None and args.seed < 0:
        raise ConfigError("--seed is 0 or more")
    manifest = load_manifest(args.folder)
    ids = sheet_ids(manifest.total, args.count, args.seed)
    save_sheet(contact_sheet(manifest, ids, args.tile, args.masks), Path(args.out))
    print(f"{args.out}: {len(ids)} of {manifest.total} photos")
    return 0


def _triple(values: list[float]) -> str:
    return "[" + ", ".join(f"{value:.4f}" for value in values) + "]"
