"""`fra-dist embed`: embeddings, regions and heatmaps of a folder of photos or of shards, written to disk.

fra-dist embed --checkpoint RUN_OR_FILE --data FOLDER_OR_SHARDS --out DIR

writes embeddings (--what embeddings,regions,heatmaps) as .npy or parquet with the key of each row, a map (map.html,
coloured by labels or clusters) and a sheet of nearest neighbours. Photos are cut to their middle square: give crops of
faces. After an interruption the same command resumes.
"""

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

from fra_dist.cli.embed.clock import Clock
from fra_dist.cli.line import arguments
from fra_dist.files import exists

KINDS = ("embeddings", "regions", "heatmaps")


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `fra-dist embed` to its parser."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.description = __doc__
    parser.add_argument("--checkpoint", required=True, metavar="RUN_OR_FILE", help="as for eval")
    parser.add_argument(
        "--data", required=True, nargs="+", metavar="PLACE", help="photos, or a folder or URL of shards"
    )
    parser.add_argument("--out", required=True, metavar="DIR", help="folder for the result")
    parser.add_argument(
        "--what", type=_kinds, default=KINDS[:1], metavar="K,K", help=f"of {', '.join(KINDS)} (embeddings)"
    )
    parser.add_argument("--format", choices=("npy", "parquet"), default="npy", help="(%(default)s)")
    parser.add_argument("--half", action="store_true", help="16-bit numbers: flat heatmaps lose their differences")
    parser.add_argument("--batch", type=arguments.count, default=64, metavar="N", help="photos at a time (%(default)s)")
    parser.add_argument("--limit", type=arguments.count, metavar="N", help="the first N photos")
    parser.add_argument(
        "--map", choices=("pca", "tsne", "none"), default="pca", help="of the pooled features (%(default)s)"
    )
    parser.add_argument(
        "--neighbours", type=arguments.whole_number, default=9, metavar="N", help="on the sheet; 0: none (%(default)s)"
    )
    parser.add_argument(
        "--labels",
        metavar="FILE.csv",
        help="colours of the map: a column key (path below --data) and columns of labels",
    )
    parser.add_argument(
        "--clusters", type=arguments.whole_number, default=8, metavar="N", help="at most, on the map (%(default)s)"
    )
    parser.add_argument("--fresh", action="store_true", help="begin again, whatever --out holds")
    network = parser.add_argument_group("network")
    network.add_argument(
        "--image-size", type=arguments.count, metavar="PX", help="side of the photos (the network's own)"
    )
    network.add_argument("--normalise", choices=("auto", "fra", "imagenet"), default="auto", help="mean and deviation")
    network.add_argument("--target", action="store_true", help="of ours: the target instead of the online network")


def run(args: argparse.Namespace) -> int:
    """Embed the photos and write the result. Exit status 0: written; 130: stopped by Ctrl-C.

    Raises CheckpointError, ConfigError or DataError for what cannot be used.
    """
    _refuse_missing(args)
    from fra_dist.api.embedding import EmbedOptions, embed
    from fra_dist.api.face_model import FaceModel, load
    from fra_dist.eval.embed.result_files import MANIFEST
    from fra_dist.report.embedding_map import PAGE

    options = EmbedOptions(
        args.what,
        args.format,
        args.half,
        args.batch,
        args.limit,
        args.map,
        args.neighbours,
        args.labels,
        args.clusters,
        args.fresh,
    )
    clocks: list[Clock] = []

    def begin(total: int, done: int) -> Callable[[int, int], None]:
        clocks.append(Clock(total, done))
        return clocks[0].tell

    def model() -> FaceModel:
        return load(args.checkpoint, image_size=args.image_size, normalise=args.normalise, target=args.target)

    try:
        found = embed(model, args.data, args.out, options, begin=begin)
    except KeyboardInterrupt:
        print("\nstopped: the same command resumes from the last finished part", file=sys.stderr)
        return 130
    finally:
        for clock in clocks:
            clock.close()
    sizes = ", ".join(f"{name} {shape}" for name, shape in found.arrays.items())
    rows = next(iter(found.arrays.values()))[0]
    gone = f", {found.left_out} left out ({found.folder / 'quarantine.jsonl'})" if found.left_out else ""
    print(f"{rows} photos{gone}: {sizes}\n{found.folder / MANIFEST}")
    if exists(found.folder / PAGE):
        print(f"map of the photos: {found.folder / PAGE}")
    return 0


def _refuse_missing(args: argparse.Namespace) -> None:
    """Refuse paths that are not there before torch is imported, which takes seconds."""
    from fra_dist.data.stores.remote_folder import is_remote
    from fra_dist.eval.embed.colourings import read_label_table
    from fra_dist.eval.embed.photo_stream import no_photos
    from fra_dist.layouts.shipped_weights import refuse_missing_weights
    from fra_dist.report.user_photos import lead_nowhere

    refuse_missing_weights(args.checkpoint)
    if not is_remote(args.data[0]) and lead_nowhere(args.data):
        raise no_photos(args.data[0])
    if args.labels is not None and not exists(Path(args.labels)):
        read_label_table(args.labels)


def _kinds(text: str) -> list[str]:
    words = text.split(",")
    wrong = [word for word in words if word not in KINDS]
    if wrong:
        raise argparse.ArgumentTypeError(f"{wrong[0]!r} is not one of {', '.join(KINDS)}")
    return words
