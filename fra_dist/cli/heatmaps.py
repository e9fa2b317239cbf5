"""`fra-dist heatmaps CHECKPOINT PHOTOS... --out DIR`: draw the regions that a checkpoint finds.

Each photo is cut to its middle square, which keeps its aspect, and scaled to the size that the network was trained at.
`report/gallery.py` says which files are written.
"""

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from fra_dist.cli.line import arguments
from fra_dist.errors import CheckpointError, DataError

if TYPE_CHECKING:
    from fra_dist.report.gallery import Gallery


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `fra-dist heatmaps` to its parser."""
    parser.add_argument(
        "checkpoint",
        help="a run folder, a checkpoint in it, a file that has a whole network, or weights in the package: "
        "small-synthetic",
    )
    parser.add_argument("photos", nargs="+", help="files, folders or patterns")
    parser.add_argument("--out", default="heatmaps", metavar="DIR", help="where pictures go (default: %(default)s)")
    parser.add_argument(
        "--limit", type=arguments.count, default=48, metavar="N", help="draw the first N photos (%(default)s)"
    )
    parser.add_argument("--rows", type=arguments.count, default=12, metavar="N", help="photos on a sheet (%(default)s)")
    parser.add_argument("--tile", type=_tile, default=160, metavar="PX", help="side of a picture (%(default)s)")


def run(args: argparse.Namespace) -> int:
    """Draw the regions of photos; exit status 0 when at least one was drawn.

    Raises CheckpointError or DataError when none can be drawn.
    """
    from fra_dist.report.user_photos import find_photos

    files, missing = find_photos(args.photos)
    if not files:
        raise DataError(f"nothing to draw: {missing[0].path}: {missing[0].reason}")

    from fra_dist.config import DataConfig
    from fra_dist.eval.features.networks import on_device, open_encoder
    from fra_dist.report.gallery import Style, draw_gallery

    encoder = on_device(open_encoder(args.checkpoint))
    network, about = encoder.network, encoder.about
    if network is None or not network.has_regions:
        raise CheckpointError(
            f"{about['checkpoint']} was trained without a region decoder (plain BYOL) or is a backbone: it has "
            "no heatmaps"
        )
    out = Path(args.out)
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DataError(f"cannot make the folder {out}: {error.strerror}; give another --out") from None
    for gone in missing:
        print(gone, file=sys.stderr)

    step = int(about.get("step", 0))
    style = Style(f"{encoder.name}, step {step}", args.tile, args.rows)
    data = DataConfig(image_size=encoder.size, mean=encoder.mean, std=encoder.std)
    gallery = draw_gallery(network, data, files, out, style, args.limit, lambda gone: print(gone, file=sys.stderr))
    if not gallery.photos:
        first = gallery.skipped[0]
        raise DataError(f"nothing to draw: no readable photo among {len(files)} ({first.path}: {first.reason})")
    gallery.skipped = missing + gallery.skipped
    gallery.write({"checkpoint": about["checkpoint"], "step": step, "regions": len(network.prototypes)})
    print(_summary(gallery, len(files), args.limit))
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
