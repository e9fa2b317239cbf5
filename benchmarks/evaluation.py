"""What measuring a network costs: `python benchmarks/evaluation.py [--faces DIR] [--out DIR]`.

Extraction: images a second of `extract`, which normalises, runs the backbone and writes features to the cache, beside
the backbone alone on the same images, prepared. Rounds take turns; the ratio is the median over them.

With --faces (as for benchmarks/study.py): every task of the study with a random network, features extracted before.
Regions and consistency read the map of other pictures than extraction did, so their forward passes count.
"""

import argparse
import json
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from study_faces import labelled_sets
from study_measure import TASKS

from fra_dist.cli.eval_networks import open_encoder
from fra_dist.data.synthetic import render
from fra_dist.eval.datasets import FaceSet, open_set
from fra_dist.eval.datasets.crop import RULES, Square
from fra_dist.eval.datasets.record import Record, with_validation
from fra_dist.eval.encoder import BATCH, Encoder, extract
from fra_dist.eval.feature_cache import Cache
from fra_dist.eval.prepared import Prepared, prepare
from fra_dist.eval.results import run_task
from fra_dist.eval.settings import Settings, TaskEntry
from fra_dist.train.run_folder import versions


def extraction(encoder: Encoder, count: int, rounds: int) -> dict[str, float]:
    """Images a second of both, and the ratio."""
    photos = render(np.arange(count), encoder.size).images
    records = tuple(Record(str(n), "train", pixels=photo) for n, photo in enumerate(photos))
    faces = FaceSet("synthetic", Path("."), records, RULES["csv"])
    squares = (Square(0, 0, encoder.size),) * count
    prepared = Prepared(faces, encoder.size, "synthetic", photos, squares, ((encoder.size,) * 2,) * count)
    batches = [encoder.pixels(photos[start : start + BATCH]) for start in range(0, count, BATCH)]

    @torch.inference_mode()
    def forward() -> None:
        for batch in batches:
            encoder.backbone(batch).mean((2, 3)).cpu()

    def whole() -> None:
        with tempfile.TemporaryDirectory() as folder:
            extract(encoder, prepared, Cache(folder))

    forward()
    rates: dict[str, list[float]] = {"backbone": [], "extraction": []}
    for number in range(rounds):
        pair = [("backbone", forward), ("extraction", whole)]
        for name, work in pair if number % 2 else reversed(pair):
            began = time.perf_counter()
            work()
            rates[name].append(count / (time.perf_counter() - began))
    ratio = statistics.median(b / a for a, b in zip(rates["backbone"], rates["extraction"], strict=True))
    return {**{name: round(statistics.median(r), 1) for name, r in rates.items()}, "ratio": round(ratio, 3)}


def tasks(encoder: Encoder, faces: Path) -> dict[str, float]:
    """Seconds of extraction, and of each task after it."""
    seconds = {}
    with tempfile.TemporaryDirectory() as folder:
        sets, cache = labelled_sets(faces, Path(folder)), Cache(Path(folder) / "cache")
        began = time.perf_counter()
        for data in sorted({data for _, data, _ in TASKS.values()}):
            extract(encoder, prepare(with_validation(open_set("csv", sets[data]), 0), encoder.size, cache), cache)
        seconds["extraction"] = round(time.perf_counter() - began, 1)
        print(f"extraction of all sets: {seconds['extraction']} s", flush=True)
        for name, (task, data, settings) in TASKS.items():
            told = Settings.model_validate(settings)
            began = time.perf_counter()
            entry = TaskEntry(task=task, dataset="csv", data=str(sets[data]), settings=told)  # type: ignore[arg-type]
            run_task(encoder, entry, cache)
            seconds[name] = round(time.perf_counter() - began, 1)
            print(f"{task} on {data}: {seconds[name]} s", flush=True)
    seconds["all tasks"] = round(sum(seconds[name] for name in TASKS), 1)
    return seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--network", default="random:resnet50")
    parser.add_argument("--size", type=int, default=112, help="pixels (%(default)s)")
    parser.add_argument("--count", type=int, default=256, help="faces for extraction (%(default)s)")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--faces", type=Path, metavar="DIR", help="folder of the labelled sets")
    parser.add_argument("--out", type=Path, metavar="DIR", help="adds a row to DIR/evaluation.jsonl")
    args = parser.parse_args()
    encoder = open_encoder(args.network, args.size)
    device = torch.device("cuda", 0) if torch.cuda.is_available() else torch.device("cpu")
    encoder.backbone.to(device)
    made = versions(device)
    print(f"{args.network} at {args.size} px, {made['device']}")
    row: dict[str, object] = {"network": args.network, "size": args.size}
    if args.rounds:
        row["extraction"] = found = extraction(encoder, args.count, args.rounds)
        print(f"backbone {found['backbone']} images/s, extraction {found['extraction']}, ratio {found['ratio']}")
    if args.faces is not None:
        row["seconds"] = seconds = tasks(encoder, args.faces)
        print(f"all tasks after extraction: {seconds['all tasks']} s")
    if args.out is not None:
        with (args.out / "evaluation.jsonl").open("a") as stream:
            stream.write(json.dumps({**row, "versions": made}) + "\n")


if __name__ == "__main__":
    main()
