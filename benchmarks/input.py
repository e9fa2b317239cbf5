"""Images a second from shards to two augmented views: our DALI and torch pipelines against a usual torch loader.

    python benchmarks/input.py                                   # prints a table
    python benchmarks/input.py --out benchmarks/results --shards DIR

The usual loader is webdataset with torchvision's v2 transforms (exact Gaussian blur of 23 pixels) in a DataLoader with
as many worker processes as we have threads; also with the same transforms on Pillow images and Pillow's approximate
blur. Everybody reads the same JPEGs, by default synthetic faces of 320 pixels,
and makes both views with all augmentations of the published recipe. The ways are timed in turn, several times; the
table has the medians.
"""

import argparse
import json
import os
import platform
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

import torch
import webdataset
from usual_transforms import usual_transform

from fra_dist.config import Config, parse_config
from fra_dist.data.loading.loader import make_loader
from fra_dist.data.making.shard_making import ShardOptions, make_shards
from fra_dist.data.shards.manifest import Manifest, load_manifest
from fra_dist.distributed import SINGLE, RankContext

PACKAGES = ("torch", "torchvision", "nvidia-dali-cuda130", "numba", "numpy", "pillow", "webdataset")


def settings(args: argparse.Namespace, size: int, pipeline: str, decode: str = "auto") -> Config:
    data = {"image_size": size, "pipeline": pipeline, "decode": decode}
    data |= {"threads": args.threads, "shuffle_window": 256}
    return parse_config({"data": data, "train": {"global_batch": args.batch}})


def ours(args: argparse.Namespace, manifest: Manifest, size: int, pipeline: str, decode: str = "auto") -> Iterator[Any]:
    device = torch.device("cuda", 0) if torch.cuda.is_available() else torch.device("cpu")
    ctx = RankContext(0, 1, 0, 0, device, SINGLE)
    with make_loader(settings(args, size, pipeline, decode), manifest, ctx) as loader:
        for batch in loader:
            yield batch.views


def usual(args: argparse.Namespace, manifest: Manifest, size: int, exact: bool = True) -> Iterator[Any]:
    config = settings(args, size, "torch")
    data = config.data
    views = (view.model_dump() for view in (data.view1, data.view2))
    first, second = (usual_transform(view, size, data.mean, data.std, exact) for view in views)
    urls = [str(manifest.path(shard)) for shard in range(len(manifest.shards))]
    samples = (
        webdataset.WebDataset(urls, shardshuffle=len(urls), nodesplitter=None)
        .repeat()
        .shuffle(256)
        .decode("pil")
        .to_tuple("jpg")
        .map(lambda sample: (first(sample[0]), second(sample[0])))
    )
    yield from torch.utils.data.DataLoader(samples, batch_size=args.batch, num_workers=args.threads)


def rate(open_loader: Callable[[], Iterator[Any]], args: argparse.Namespace) -> float:
    """Images a second over `--batches` batches after two to warm up."""
    loader = open_loader()
    for _ in range(2):
        next(loader)
    before = time.perf_counter()
    for _ in range(args.batches):
        next(loader)
    seconds = time.perf_counter() - before
    loader.close()  # type: ignore[attr-defined]
    return args.batches * args.batch / seconds


def measure(args: argparse.Namespace, manifest: Manifest, size: int) -> dict[str, float]:
    ways = {
        "dali, each region decoded": lambda: ours(args, manifest, size, "dali", "crops"),
        "dali, decoded once": lambda: ours(args, manifest, size, "dali", "once"),
        "torch": lambda: ours(args, manifest, size, "torch"),
        "torchvision v2 + webdataset": lambda: usual(args, manifest, size),
        "the same on Pillow, its blur": lambda: usual(args, manifest, size, exact=False),
    }
    rates: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(args.rounds):
        for name, open_loader in ways.items():
            rates[name].append(rate(open_loader, args))
    return {name: statistics.median(values) for name, values in rates.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shards", type=Path, help="a folder of shards; made when absent")
    parser.add_argument("--sizes", type=int, nargs="+", default=[224, 112])
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--batches", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=min(2, os.cpu_count() or 1))
    parser.add_argument("--out", type=Path, help="folder for a row of JSON")
    args = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as scratch:
        if args.shards is None:
            manifest = make_shards("synthetic:384@320", Path(scratch) / "faces", ShardOptions(shard_samples=64))
        else:
            manifest = load_manifest(args.shards)
        found = {size: measure(args, manifest, size) for size in args.sizes}
        mean_bytes = sum(shard.bytes for shard in manifest.shards) / manifest.total

    device = torch.cuda.get_device_name() if torch.cuda.is_available() else f"CPU, {args.threads} threads"
    print(f"{device}; {manifest.total} photos, {mean_bytes / 1000:.0f} kB each in the shards; two views, images/s")
    for size, rates in found.items():
        print(f"\n{size} px")
        for name, value in rates.items():
            print(f"  {name:<28} {value:8.1f}   x {value / rates['torchvision v2 + webdataset']:.2f}")
    if args.out is not None:
        args.out.mkdir(parents=True, exist_ok=True)
        row = {
            "device": device,
            "machine": f"{platform.machine()}, {os.cpu_count()} cores",
            "versions": {name: metadata.version(name) for name in PACKAGES},
            **{"threads": args.threads, "batch": args.batch, "images_per_second": found},
        }
        with open(args.out / "input.jsonl", "a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")


if __name__ == "__main__":
    main()
