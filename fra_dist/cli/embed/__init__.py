"""`fra-dist embed`: embeddings, regions and heatmaps of a folder of photos or of shards, written to disk.

fra-dist embed --checkpoint RUN_OR_FILE --data FOLDER_OR_SHARDS --out DIR

writes embeddings (--what embeddings,regions,heatmaps) as .npy or parquet with the key of each row, a map and a sheet of
nearest neighbours. Photos are cut to their middle square: give crops of faces. After an interruption the same command
resumes.
"""

import argparse
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fra_dist.cli.line import arguments
from fra_dist.errors import DataError
from fra_dist.formats import clock_text

if TYPE_CHECKING:
    from fra_dist.eval.embed.photo_stream import PhotoList
    from fra_dist.eval.embed.pieces import Parts
    from fra_dist.eval.features.encoder import Encoder

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
    import numpy as np

    from fra_dist.eval.embed.compute import check_kinds
    from fra_dist.eval.embed.embedding_run import embed
    from fra_dist.eval.embed.pieces import Parts
    from fra_dist.eval.embed.result_files import MANIFEST, check_format
    from fra_dist.eval.features.networks import on_device, open_encoder

    check_format(args.format)
    out, began = Path(args.out), time.monotonic()
    if (out / MANIFEST).exists() and not args.fresh:
        raise DataError(f"{out} holds embeddings already: give another --out, or --fresh to replace them")
    source = _source(args)
    encoder = on_device(open_encoder(args.checkpoint, args.image_size, args.normalise, args.target))
    check_kinds(encoder, args.what)
    what = [kind for kind in KINDS if kind in args.what]
    plan = {"network": encoder.digest(), "photos": source.digest(), "what": what, "half": args.half}
    parts = Parts(out, plan, len(source), args.fresh)
    clock = _Clock(len(source), len(source) - sum(len(parts.places(number)) for number in parts.missing()))
    try:
        dtype: np.dtype[Any] = np.dtype(np.float16 if args.half else np.float32)
        embed(encoder, source, parts, what, dtype=dtype, batch=args.batch, tell=clock.tell)
    except KeyboardInterrupt:
        print("\nstopped: the same command resumes from the last finished part", file=sys.stderr)
        return 130
    finally:
        clock.close()
    if not parts.names():
        first = next(parts.bad())
        raise DataError(f"none of {len(source)} photos could be decoded ({first['key']}: {first['reason']})")
    print(_finish(args, encoder, source, parts, began))
    return 0


def _finish(args: argparse.Namespace, encoder: "Encoder", source: "PhotoList", parts: "Parts", began: float) -> str:
    """Write the result, draw, write the manifest; a summary."""
    from fra_dist.cli.embed.pictures import draw_pictures
    from fra_dist.eval.embed.compute import ABOUT
    from fra_dist.eval.embed.result_files import write_embedding_manifest, write_embeddings
    from fra_dist.train.run_dir.folder import versions

    arrays = write_embeddings(parts, args.format)
    rows, left_out = parts.shape(parts.names()[0])[0], sum(1 for _ in parts.bad())
    facts = {
        "network": encoder.describe(),
        "data": {**source.describe(), "digest": source.digest(), "crop": "middle square"},
        "rows": rows,
        "left_out": left_out,
        "format_of_arrays": args.format,
        "arrays": {name: {**shape, "what": ABOUT[name]} for name, shape in arrays.items()},
        "pictures": draw_pictures(parts, source, parts.out, args.map, args.neighbours),
        "seconds": round(time.monotonic() - began, 1),
        "versions": versions(encoder.device),
    }
    write_embedding_manifest(parts.out, facts)
    parts.remove()
    sizes = ", ".join(f"{name} {tuple(shape['shape'])}" for name, shape in arrays.items())
    gone = f", {left_out} left out ({parts.out / 'quarantine.jsonl'})" if left_out else ""
    return f"{rows} photos{gone}: {sizes}\n{parts.out / 'manifest.json'}"


def _source(args: argparse.Namespace) -> "PhotoList":
    from fra_dist.eval.embed.photo_stream import Files, open_shards
    from fra_dist.report.user_photos import find_photos

    shards = open_shards(args.data[0], args.limit) if len(args.data) == 1 else None
    if shards is not None:
        return shards
    files, missing = find_photos(args.data)
    for gone in missing:
        print(gone, file=sys.stderr)
    if not files:
        raise DataError(f"--data {args.data[0]} holds no photos and no shards")
    folder = Path(args.data[0]) if len(args.data) == 1 and Path(args.data[0]).is_dir() else Path()
    return Files(files[: args.limit], folder)


class _Clock:
    """Progress with the time that is left: a bar on a terminal, elsewhere a line every 15 seconds."""

    def __init__(self, total: int, done: int) -> None:
        from tqdm import tqdm

        self.total, self.done, self.first, self.bad = total, done, done, 0
        self.began = self.said = time.monotonic()
        shown = sys.stderr.isatty()
        self.bar: Any = tqdm(total=total, initial=done, unit="photo", desc="embed") if shown else None
        if done and not shown:
            print(f"resuming after {done} of {total} photos", flush=True)

    def tell(self, photos: int, bad: int) -> None:
        self.done, self.bad = self.done + photos, self.bad + bad
        if self.bar is not None:
            self.bar.update(photos)
            self.bar.set_postfix_str(f"{self.bad} left out" if self.bad else "", refresh=False)
            return
        now = time.monotonic()
        if now - self.said > 15:
            self.said = now
            rate = (self.done - self.first) / (now - self.began)
            left = int((self.total - self.done) / max(rate, 1e-9))
            print(
                f"{self.done} of {self.total} photos, {rate:.0f} a second, {clock_text(left)} left",
                flush=True,
            )

    def close(self) -> None:
        if self.bar is not None:
            self.bar.close()


def _kinds(text: str) -> list[str]:
    words = text.split(",")
    wrong = [word for word in words if word not in KINDS]
    if wrong:
        raise argparse.ArgumentTypeError(f"{wrong[0]!r} is not one of {', '.join(KINDS)}")
    return words
