"""What measuring a network costs: `python benchmarks/evaluation.py [--faces DIR] [--out DIR]`.

Extraction: images a second of `extract`, which normalises, runs the backbone and writes features to the cache, beside
the backbone alone on the same images, prepared. Rounds take turns; the ratio is the median over them. On a CPU rates
are of one thread and of processor time, which other work on the machine enters little. --dtype bfloat16: of a backbone
in this format.

With --faces (as for benchmarks/study.py): every task of the study with a random network, features extracted before.
Regions and consistency read the maps of more pictures than extraction did, so their forward passes count. Printed:
seconds on the clock, and of the processor. --made-up-features leaves extraction out: the features are random numbers.
"""

import argparse
import json
import os
import statistics
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from study_faces import labelled_sets
from study_measure import TASKS
from torch import Tensor, nn

from fra_dist.eval.datasets import FaceSet, open_set
from fra_dist.eval.datasets.common.crop_rules import CropRule, Square
from fra_dist.eval.datasets.common.labelled_face import Record, with_validation
from fra_dist.eval.features.encoder import BATCH, Encoder, extract
from fra_dist.eval.features.feature_cache import Cache
from fra_dist.eval.features.networks import open_encoder
from fra_dist.eval.features.prepared_faces import PreparedFaces, prepare_faces
from fra_dist.eval.results import run_task
from fra_dist.eval.settings import Settings, TaskEntry
from fra_dist.synthetic import render
from fra_dist.train.run_dir.folder import versions

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


def extraction(encoder: Encoder, count: int, rounds: int) -> dict[str, float]:
    """Images a second of both, and the ratio."""
    photos = render(np.arange(count), encoder.size).images
    records = tuple(Record(str(n), "train", pixels=photo) for n, photo in enumerate(photos))
    faces = FaceSet("synthetic", Path("."), records, CropRule("middle"))
    squares = (Square(0, 0, encoder.size),) * count
    prepared = PreparedFaces(faces, encoder.size, "synthetic", photos, squares, ((encoder.size,) * 2,) * count)
    batches = [encoder.pixels(photos[start : start + BATCH]) for start in range(0, count, BATCH)]

    @torch.inference_mode()
    def forward() -> None:
        for batch in batches:
            encoder.backbone(batch).mean((2, 3)).cpu()

    def whole() -> None:
        with tempfile.TemporaryDirectory() as folder:
            extract(encoder, prepared, Cache(folder))

    clock = time.process_time if encoder.device.type == "cpu" else time.perf_counter
    forward()
    rates: dict[str, list[float]] = {"backbone": [], "extraction": []}
    for number in range(rounds):
        pair = [("backbone", forward), ("extraction", whole)]
        for name, work in pair if number % 2 else reversed(pair):
            began = clock()
            work()
            rates[name].append(count / (clock() - began))
    ratio = statistics.median(b / a for a, b in zip(rates["backbone"], rates["extraction"], strict=True))
    return {**{name: round(statistics.median(r), 1) for name, r in rates.items()}, "ratio": round(ratio, 3)}


def tasks(encoder: Encoder, faces: Path, work: Path, made_up: bool) -> dict[str, tuple[float, float]]:
    """Seconds on the clock and of the processor: of extraction, and of each task after it."""
    seconds: dict[str, tuple[float, float]] = {}
    sets, cache = labelled_sets(faces, work), Cache(work / "cache")
    with timed(seconds, "extraction"):
        for data in sorted({data for _, data, _ in TASKS.values()}):
            prepared = prepare_faces(with_validation(open_set("csv", sets[data]), 0), encoder.size, cache)
            extract(made_up_of(encoder) if made_up else encoder, prepared, cache)
    for name, (task, data, settings) in TASKS.items():
        told = Settings(limit=settings.get("limit"))  # type: ignore[arg-type]
        entry = TaskEntry(task=task, dataset="csv", data=str(sets[data]), settings=told)  # type: ignore[arg-type]
        with timed(seconds, name):
            run_task(encoder, entry, cache)
    seconds["all tasks"] = tuple(round(sum(seconds[name][k] for name in TASKS), 1) for k in (0, 1))  # type: ignore[assignment]
    return seconds


def made_up_of(encoder: Encoder) -> Encoder:
    """The same in the eyes of the cache, with normal numbers for maps."""

    class MadeUp(Encoder):
        def digest(self) -> str:
            return encoder.digest()

    generator = torch.Generator().manual_seed(0)
    shape = encoder.maps(np.zeros((1, encoder.size, encoder.size, 3), np.uint8)).shape[1:]

    class Noise(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.unused = nn.Parameter(torch.zeros(1))

        def forward(self, images: Tensor) -> Tensor:
            return torch.randn(len(images), *shape, generator=generator).relu()

    return MadeUp(encoder.name, Noise(), encoder.size, encoder.mean, encoder.std)


@contextmanager
def timed(seconds: dict[str, tuple[float, float]], name: str) -> Iterator[None]:
    wall, used = time.perf_counter(), time.process_time()
    yield
    seconds[name] = round(time.perf_counter() - wall, 1), round(time.process_time() - used, 1)
    print(f"{name}: {seconds[name][0]} s, {seconds[name][1]} s of the processor", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--network", default="random:resnet50")
    parser.add_argument("--size", type=int, default=112, help="pixels (%(default)s)")
    parser.add_argument("--dtype", choices=DTYPES, default="float32", help="of weights and images (%(default)s)")
    parser.add_argument("--count", type=int, default=256, help="faces for extraction (%(default)s)")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--faces", type=Path, metavar="DIR", help="folder of the labelled sets")
    parser.add_argument("--made-up-features", action="store_true")
    parser.add_argument("--work", type=Path, metavar="DIR", help="keeps unpacked sets and features for another time")
    parser.add_argument("--out", type=Path, metavar="DIR", help="adds a row to DIR/evaluation.jsonl")
    args = parser.parse_args()
    encoder = open_encoder(args.network, args.size)
    device = torch.device("cuda", 0) if torch.cuda.is_available() else torch.device("cpu")
    encoder.backbone.to(device, DTYPES[args.dtype])
    made = versions(device)
    print(f"{args.network} at {args.size} px, {made['device']}")
    row: dict[str, object] = {
        "network": args.network,
        "size": args.size,
        "dtype": args.dtype,
        "made_up": args.made_up_features,
    }
    row["load"] = os.getloadavg()[0]
    row["threads"] = torch.get_num_threads()
    if args.rounds:
        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        row["extraction"] = found = extraction(encoder, args.count, args.rounds)
        torch.set_num_threads(threads)
        print(f"backbone {found['backbone']} images/s, extraction {found['extraction']}, ratio {found['ratio']}")
    if args.faces is not None:
        with tempfile.TemporaryDirectory() as folder:
            row["seconds"] = seconds = tasks(encoder, args.faces, args.work or Path(folder), args.made_up_features)
        print(f"all tasks after extraction: {seconds['all tasks'][0]} s, {seconds['all tasks'][1]} s of the processor")
    if args.out is not None:
        args.out.mkdir(parents=True, exist_ok=True)
        with (args.out / "evaluation.jsonl").open("a") as stream:
            stream.write(json.dumps({**row, "versions": made}) + "\n")


if __name__ == "__main__":
    main()
