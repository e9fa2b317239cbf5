"""`fra-dist shards make`: pack photos, or synthetic faces, into shards."""

import argparse
import itertools
import json
from collections import Counter
from pathlib import Path
from typing import Any

from fra_dist.cli.line.arguments import count
from fra_dist.cli.shards.text import Bar, shards_line
from fra_dist.errors import ConfigError


def configure(make: argparse.ArgumentParser) -> None:
    """Add the arguments of `fra-dist shards make` to its parser."""
    make.add_argument(
        "source", metavar="SRC", help="folder, tar, RecordIO, parquet, or synthetic:N[@SIZE][/PEOPLE][:face|:wild]"
    )
    make.add_argument("--out", required=True, metavar="DIR", help="new folder for the shards")
    make.add_argument("--shard-samples", type=count, metavar="N", help="most samples in a shard (default 4096)")
    make.add_argument("--shard-mb", type=float, metavar="M", help="most megabytes (10^6 bytes) in a shard")
    make.add_argument("--size", type=count, metavar="PX", help="scale photos down to this side; none is scaled up")
    make.add_argument("--side", choices=("shorter", "longer"), default="shorter", help="the side that --size means")
    make.add_argument("--min-side", type=count, default=16, metavar="PX", help="leave smaller photos out (default 16)")
    make.add_argument("--quality", type=count, default=92, metavar="Q", help="of re-encoded JPEGs (default 92)")
    make.add_argument("--order", choices=("shuffled", "source"), default="shuffled", help="of the photos in the shards")
    make.add_argument("--seed", type=int, default=0, help="of the shuffle; of synthetic faces: which ones (default 0)")
    make.add_argument("--workers", type=count, metavar="N", help="processes; default: one a core")
    make.add_argument("--overwrite", action="store_true", help="replace shards that this command made there before")
    make.add_argument("--no-report", action="store_true", help="write no DIR/report.html")
    _configure_faces(make.add_argument_group("faces"))
    _configure_bounds(make.add_argument_group("what is good enough"))
    _configure_lists(make.add_argument_group("what is left out"))


def _configure_faces(group: Any) -> None:
    group.add_argument("--crop", choices=("box", "align"), help="a square around the face, or turned upright")
    group.add_argument("--margin", type=float, metavar="F", help="side over the face's (default: box 1.3, align 1.2)")
    group.add_argument("--boxes", type=Path, metavar="FILE", help="boxes: VGGFace2, CelebA, or csv name,x,y,w,h")
    group.add_argument("--landmarks", type=Path, metavar="FILE", help="five points: VGGFace2, CelebA, or csv")
    group.add_argument("--detect", metavar="NAME", help="find faces that no file names: centerface, or module:Class")


def _configure_bounds(group: Any) -> None:
    group.add_argument("--min-face", type=count, metavar="PX", help="longer side of the face in the photo")
    group.add_argument("--min-score", type=float, metavar="S", help="of the detector, 0 to 1")
    group.add_argument("--max-turn", type=float, metavar="T", help="of the head: 0 frontal, 0.34 about 45 degrees")
    group.add_argument("--min-sharpness", type=float, metavar="V", help="variance of the Laplacian at 96 pixels")
    group.add_argument("--max-clipped", type=float, metavar="S", help="share of black and white pixels, 0 to 1")
    group.add_argument("--brightness", type=float, nargs=2, metavar=("LOW", "HIGH"), help="mean level, 0 to 255")


def _configure_lists(group: Any) -> None:
    group.add_argument("--near-copies", type=int, nargs="?", const=24, metavar="BITS", help="bits of 256 (24)")
    group.add_argument("--exclude", type=Path, metavar="FILE", help="names or keys of photos, one a line")
    group.add_argument("--exclude-identities", type=Path, metavar="FILE", help="people (names of folders), one a line")
    group.add_argument("--identities", type=Path, metavar="FILE", help="lines of name and person, for one flat folder")
    group.add_argument("--exclude-like", metavar="SRC", help="folder or tar whose near-copies are left out: a test set")


def run(args: argparse.Namespace) -> int:
    """Make the shards and the page beside them. Raises ConfigError or DataError when that cannot be done."""
    from fra_dist.api.shards import make_shards
    from fra_dist.data.making.cleaning import PhotoRules
    from fra_dist.data.making.faces.face_crop import FaceCropRule
    from fra_dist.data.making.faces.quality import QualityRule
    from fra_dist.data.making.journal import REPORT
    from fra_dist.data.making.selection import Selection
    from fra_dist.data.making.shard_making import ShardOptions

    if args.shard_mb is not None and not args.shard_mb > 0:
        raise ConfigError(f"--shard-mb is more than 0, not {args.shard_mb:g}")
    by_bytes = args.shard_mb is not None and args.shard_samples is None
    crop = None
    if args.crop is not None:
        side = args.size or 224 if args.crop == "align" else args.size
        crop = FaceCropRule(args.crop, args.margin or {"box": 1.3, "align": 1.2}[args.crop], side)
    bounds = QualityRule(
        args.min_sharpness, args.max_clipped, tuple(args.brightness) if args.brightness else None, args.max_turn,
        args.min_face, args.min_score,
    )  # fmt: skip
    options = ShardOptions(
        shard_samples=10**9 if by_bytes else args.shard_samples or ShardOptions.shard_samples,
        shard_bytes=None if args.shard_mb is None else int(args.shard_mb * 1e6),
        photos=PhotoRules(args.size, args.side, args.quality, args.min_side, crop, args.detect, bounds),
        order=args.order,
        seed=args.seed,
        workers=args.workers,
        selection=Selection(
            args.boxes, args.landmarks, args.exclude, args.exclude_identities, args.identities, args.exclude_like,
            args.near_copies,
        ),
        overwrite=args.overwrite,
    )  # fmt: skip
    with Bar("photos") as bar:
        manifest = make_shards(args.source, args.out, options, bar, report=not args.no_report)
    print(shards_line(manifest))
    _print_skipped(manifest)
    _print_crops(manifest)
    if not args.no_report:
        print(f"report: {Path(args.out) / REPORT}")
    return 0


def _print_crops(manifest: Any) -> None:
    from fra_dist.data.making.faces.crop_notes import CROPS

    crops = manifest.stats.get("crops")
    if crops is None:
        return
    side = crops["side"]
    print(f"crops: {side['median']:g} pixels of the photo a side in the median, {side['least']:g} to {side['most']:g}")
    if crops["notes"]:
        each = ", ".join(f"{number} {kind}" for kind, number in crops["notes"].items())
        print(f"to look at: {crops['noted']} crops ({each}); each is named in {manifest.folder / CROPS}")


def _print_skipped(manifest: Any) -> None:
    from fra_dist.data.shards.manifest import SKIPPED
    from fra_dist.files import raw_text

    if not manifest.skipped:
        return
    path = manifest.folder / SKIPPED
    lines = raw_text(path).splitlines()
    reasons = Counter(json.loads(line)["reason"].partition(":")[0] for line in lines)
    most = ", ".join(f"{number} {reason}" for reason, number in itertools.islice(reasons.most_common(), 6))
    print(f"left out: {manifest.skipped} ({most}); each is named in {path}")
