"""What the input path costs beside decoding: starting in the middle of a run, waiting while training, memory at scale.

    python benchmarks/data_plane.py                              # prints a table
    python benchmarks/data_plane.py --out benchmarks/results

Resume: time to the first batch at the last step of a run of 10^6 steps against step 0, in turn, and how many samples
are read there that no batch uses. Training: the loader alone against `fra-dist pretrain` with the demo's settings, and
the share of its time that the training waited for a batch. Pixels: mean difference of the two paths in levels of 0 to
255 for each augmentation alone, at its full strength on every photo. Scale: start, batches and memory of one rank of
4,096 on a manifest of 10^9 samples in 10^5 shards of unequal size, in a process of its own.
"""

import argparse
import hashlib
import json
import multiprocessing
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import torch

from fra_dist.config import Config, load_config, parse_config
from fra_dist.data.decoding.images import probe
from fra_dist.data.decoding.pipeline import Request
from fra_dist.data.loading.loader import make_loader
from fra_dist.data.making.shard_making import ShardOptions, make_shards
from fra_dist.data.order.plan import Plan
from fra_dist.data.order.views import draw_views
from fra_dist.data.shards.index import INDEX_DTYPE, ShardEntry, index_bytes
from fra_dist.data.shards.manifest import Manifest, load_manifest, write_manifest
from fra_dist.data.shards.reader import LocalSource, ShardReader
from fra_dist.distributed import SINGLE, RankContext

PACKAGES = ("torch", "nvidia-dali-cuda130", "numpy")
LAST_STEP = 10**6 - 1
HERE = RankContext(0, 1, 0, 0, torch.device("cpu"), SINGLE)


def first_batch(config: Config, manifest: Manifest, step: int) -> float:
    """Seconds from nothing to the first batch of a step."""
    before = time.perf_counter()
    with make_loader(config, manifest, HERE, start_step=step, stop_step=LAST_STEP + 1) as loader:
        assert next(loader).step == step
        return time.perf_counter() - before


class Counting(LocalSource):
    """Counts the samples that are read."""

    samples = 0

    def ranges(self, shard: str, offsets: Sequence[int], lengths: Sequence[int]) -> list[bytes]:
        Counting.samples += len(offsets)
        return super().ranges(shard, offsets, lengths)


def unused_after_resume(config: Config, manifest: Manifest, steps: int = 5) -> int:
    """Samples read but not trained on, between a resume near the end of a run and its end."""
    from fra_dist.data.shards import reader

    original, reader.LocalSource = reader.LocalSource, Counting  # type: ignore[misc]
    Counting.samples = 0
    try:
        start = LAST_STEP + 1 - steps
        with make_loader(config, manifest, HERE, start_step=start, stop_step=LAST_STEP + 1) as loader:
            used = sum(len(batch.ids) for batch in loader)
    finally:
        reader.LocalSource = original  # type: ignore[misc]
    return Counting.samples - used


def resume(manifest: Manifest, rounds: int) -> dict[str, float]:
    data = {"image_size": 112, "shuffle_window": 256}
    config = parse_config({"data": data, "train": {"global_batch": 32}})
    first_batch(config, manifest, 0)  # imports
    seconds = {step: [] for step in (0, LAST_STEP)}
    for _ in range(rounds):
        for step, found in seconds.items():
            found.append(first_batch(config, manifest, step))
    at_start, at_end = (statistics.median(found) for found in seconds.values())
    return {
        "first_batch_seconds": at_start,
        "first_batch_at_the_end_against_the_start": at_end / at_start,
        "read_but_unused_after_resume": unused_after_resume(config, manifest),
    }


def training(manifest: Manifest, steps: int, scratch: Path) -> dict[str, float]:
    """The loader alone and a real run with the settings of the demo."""
    overrides = [f"data.shards={manifest.folder}", f"output={scratch / 'run'}", f"train.steps={steps}"]
    overrides += ["log.every_steps=5", "log.heatmaps_every=0", "log.tensorboard=false"]
    config = load_config("configs/demo.yaml", overrides)
    with make_loader(config, manifest, HERE, stop_step=22) as loader:
        for _ in range(2):
            next(loader)
        before = time.perf_counter()
        alone = sum(len(batch.ids) for batch in loader) / (time.perf_counter() - before)
    command = [sys.executable, "-m", "fra_dist.cli.main", "pretrain", "configs/demo.yaml", *overrides]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    rows = [json.loads(line) for line in (scratch / "run" / "metrics.jsonl").read_text().splitlines()][2:]
    rate = statistics.median(row["images_per_second"] for row in rows)
    wait = statistics.mean(row["data_wait"] for row in rows)
    return {
        "loader_images_per_second": alone,
        "training_images_per_second": rate,
        "loader_against_training": alone / rate,
        "data_wait_share": wait,
    }


def pixels(manifest: Manifest, photos: int = 64) -> dict[str, float]:
    """Mean absolute difference of the DALI path from the torch path, which runs torchvision's own functions."""
    from fra_dist.data.decoding.dali_pipeline import DaliPipeline
    from fra_dist.data.decoding.torch_pipeline import TorchPipeline

    config = parse_config({"data": {"image_size": 112}}).data
    ids = np.arange(photos)
    images = [manifest.image(i) for i in ids.tolist()]
    heads = [probe(image) for image in images]
    sizes = np.array([head.height for head in heads]), np.array([head.width for head in heads])
    view = draw_views(config.view1, 0, 0, ids, 0, *sizes)
    spread = np.linspace(-1, 1, photos)
    none = {name: np.ones(photos) for name in ("brightness", "contrast", "saturation")}
    none |= {"hue": np.zeros(photos), "sigma": np.zeros(photos), "grey": np.zeros(photos, bool)}
    none["solarise"] = np.full(photos, 256, np.int16)
    full = {name: 1 + 0.4 * spread for name in ("brightness", "contrast")} | {"saturation": 1 + 0.2 * spread}
    full |= {"hue": 0.1 * spread, "sigma": 1.05 + 0.95 * spread, "grey": np.ones(photos, bool)}
    full["solarise"] = np.full(photos, 128, np.int16)
    std = torch.tensor(config.std).view(3, 1, 1) * 255
    ways = DaliPipeline(config, HERE.device, photos), TorchPipeline(config, HERE.device)
    found = {}
    for name in ("crop and resize", *full):
        params = replace(view, **none | ({name: full[name]} if name in full else {}))
        ours, theirs = (way.redo(Request(images, heads, (params, params)))[0] for way in ways)
        found[f"pixels_{name.replace(' ', '_')}"] = ((ours - theirs) * std).abs().mean().item()
    for way in ways:
        way.close()
    return found


def simulated_set(folder: Path, shards: int = 10**5, samples: int = 10**9) -> None:
    """A manifest of about that many samples in shards of a third to five thirds of the mean size, and their indexes."""
    sizes = np.random.default_rng(0).integers(samples // shards // 3, samples // shards * 5 // 3, shards)
    sizes = sizes // 64 * 64 + 64  # few different indexes
    entries, start = [], 0
    sums: dict[int, str] = {}
    for size in np.unique(sizes).tolist():
        rows = np.zeros(size, INDEX_DTYPE)
        rows["start"] = np.arange(size) * 2048
        rows["offset"] = rows["start"] + 512
        rows["length"], rows["height"], rows["width"] = 1000, 256, 256
        data = index_bytes(rows)
        (folder / f"{size}.idx.npy").write_bytes(data)
        sums[size] = hashlib.sha256(data).hexdigest()
    for number, size in enumerate(sizes.tolist()):
        entry = ShardEntry(f"s{number:06d}.tar", size, size * 2048, "0" * 64, f"{size}.idx.npy", sums[size], start)
        entries.append(entry)
        start += size
    write_manifest(Manifest(folder, tuple(entries)))


def at_scale(folder: str, queue: Any) -> None:
    """One rank's manifest, plan and reader, from the command to 20 batches near the end of the first epoch."""
    base = _memory("VmRSS")
    rank, world, per_rank = 7, 4096, 256
    before = time.perf_counter()
    manifest = load_manifest(folder, check_files=False)
    loaded = time.perf_counter()
    plan = Plan(manifest.sizes, 0, world * per_rank)
    plan.batch(0, rank, world)
    started = time.perf_counter()
    reader, seconds = ShardReader(manifest), []
    last = int(plan.steps_per_epoch)
    for step in [*range(10), *range(last - 5, last + 5)]:
        begin = time.perf_counter()
        ids = plan.batch(step, rank, world).ids
        seconds.append(time.perf_counter() - begin)
        for number in np.unique(manifest.locate(ids)[0]).tolist():
            path = Path(folder) / manifest.shards[number].name
            if not path.exists():
                with open(path, "wb") as file:
                    file.truncate(manifest.shards[number].bytes)  # takes no disk space
        reader.read(ids)
    grown = _memory("VmHWM") - base
    queue.put(
        {
            "manifest_seconds": loaded - before,
            "plan_start_seconds": started - loaded,
            "plan_batch_seconds_max": max(seconds),
            "rank_memory_mib": grown,
        }
    )


def _memory(field: str) -> float:
    """MiB that the kernel counts for this process: VmRSS now, VmHWM at most so far."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith(field))


def scale(scratch: Path) -> dict[str, float]:
    simulated_set(scratch)
    context = multiprocessing.get_context("spawn")  # memory of its own
    queue = context.Queue()
    process = context.Process(target=at_scale, args=(str(scratch), queue))
    process.start()
    found: dict[str, float] = queue.get(timeout=300)
    process.join()
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--steps", type=int, default=60, help="of the training run")
    parser.add_argument("--out", type=Path, help="folder for a row of JSON")
    args = parser.parse_args()
    torch.set_num_threads(min(2, os.cpu_count() or 1))
    found: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as scratch:
        for name in ("faces", "run", "large"):
            (Path(scratch) / name).mkdir()
        manifest = make_shards("synthetic:640@112", Path(scratch) / "faces", ShardOptions(shard_samples=64))
        found |= resume(manifest, args.rounds)
        found |= training(manifest, args.steps, Path(scratch) / "run")
        found |= pixels(manifest)
        found |= scale(Path(scratch) / "large")
    for name, value in found.items():
        print(f"{name.replace('_', ' '):<44} {value:10.4g}")
    if args.out is not None:
        args.out.mkdir(parents=True, exist_ok=True)
        row = {
            "device": f"CPU, {torch.get_num_threads()} threads",
            "machine": f"{platform.machine()}, {os.cpu_count()} cores",
            "versions": {name: metadata.version(name) for name in PACKAGES},
            **found,
        }
        with open(args.out / "data_plane.jsonl", "a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")


if __name__ == "__main__":
    main()
