"""`fra-dist heatmaps CHECKPOINT PHOTOS... --out DIR`: draw the regions that a checkpoint finds.

Each photo is cut to its middle square, which keeps its aspect, and scaled to the size that the network was trained at.
`report/gallery.py` says which files are written. Pictures of an earlier run of the command in DIR are replaced.
"""

import argparse
import sys
from typing import TYPE_CHECKING

from fra_dist.cli.line import arguments
from fra_dist.errors import DataError
from fra_dist.formats import plural

if TYPE_CHECKING:
    from fra_dist.report.gallery import Gallery


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `fra-dist heatmaps` to its parser."""
    parser.add_argument("checkpoint", help="a run folder, a checkpoint in it, weights with regions, or small-synthetic")
    parser.add_argument("photos", nargs="+", help="files, folders or patterns")
    parser.add_argument("--out", default="heatmaps", metavar="DIR", help="where pictures go (default: %(default)s)")
    parser.add_argument(
        "--limit", type=arguments.count, default=48, metavar="N", help="draw the first N photos (%(default)s)"
    )
    parser.add_argument("--rows", type=arguments.count, default=12, metavar="N", help="photos on a sheet (%(default)s)")
    parser.add_argument("--tile", type=_tile, default=160, metavar="PX", help="side of a picture (%(default)s)")


def run(args: argparse.Namespace) -> int:
    """Draw the regions of photos; exit status 0 when at least one was drawn.

    Raises CheckpointError or DataError when none can be drawn, DiskError when a disk does not give a photo now.
    """
    from fra_dist.layouts.shipped_weights import refuse_missing_weights
    from fra_dist.report.user_photos import lead_nowhere, printable

    refuse_missing_weights(args.checkpoint)  # before torch, whose import takes seconds
    if lead_nowhere(args.photos):
        raise DataError(f"nothing to draw: {printable(args.photos[0])}: no such file or folder")
    from fra_dist.api.pictures import heatmaps

    gallery = heatmaps(
        args.checkpoint, args.photos, args.out, limit=args.limit, rows=args.rows, tile=args.tile,
        tell=lambda gone: print(gone, file=sys.stderr),
    )  # fmt: skip
    print(_summary(gallery, gallery.files, args.limit))
    if gallery.removed:
        print(f"note: deleted {plural(len(gallery.removed), 'picture')} of the run before it in {gallery.out}")
    if gallery.others:
        print(
            f"note: {gallery.out} also holds {plural(len(gallery.others), 'picture')} that this run has not made, "
            f"{gallery.others[0]} for example"
        )
    return 0


def _summary(gallery: "Gallery", files: int, limit: int) -> str:
    drawn = len(gallery.photos)
    regions = len(gallery.photos[0]["shares"])
    means = [sum(photo["shares"][q] for photo in gallery.photos) / drawn for q in range(regions)]
    text = f"{drawn} photo{'s' if drawn > 1 else ''} drawn"
    if drawn == limit < files:
        text += f" (the first of {files} files: --limit draws more)"
    if gallery.skipped:
        text += f", {len(gallery.skipped)} skipped"
    return f"{text}; {sum(m >= 0.01 for m in means)} of {regions} regions in use\n{gallery.out / gallery.sheets[0]}"


def _tile(text: str) -> int:
    if not text.isdecimal() or not 32 <= int(text) <= 1024:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 32 to 1024")
    return int(text)
