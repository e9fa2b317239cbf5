"""What bounds of `fra-dist shards make` would leave out of folders of face crops, and how good the detector is on them.

    python benchmarks/photo_bounds.py DIR [DIR ...]
    python benchmarks/photo_bounds.py DIR --landmarks LABELLED --yaw LABELLED

Sharpness, exposure and hashes are measured on every photo; the detector looks at `--sample` of them, with a quarter of
the side added around each by repeating its edge, as they are and at double size. LABELLED is a folder with photos and
labels: for `--landmarks` a `landmarks.npz` with `files` and `points` (N, 68, 2) as shares of the side, for `--yaw` a
`labels.csv` with the columns `file` and `yaw` (degrees). Times are CPU time of one core.
"""

import argparse
import csv
import random
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from fra_dist.data.making.faces.detectors import choose_face, open_detector
from fra_dist.data.making.faces.face_crop import turn
from fra_dist.data.making.faces.near_copies import find_copies
from fra_dist.data.making.faces.quality import clipped, grey_square, perceptual_hash, sharpness

AROUND = 0.25
Found = tuple[float, NDArray[np.float64]]
"""Score, and five points (5, 2) as shares of the side of the photo."""


def opened(path: Path) -> Image.Image:
    with Image.open(path) as image:
        return image.convert("RGB")


def below(values: NDArray[np.float64], bounds: Sequence[float], above: bool = False) -> str:
    return ", ".join(f"{bound:g}: {np.mean(values > bound if above else values < bound):.2%}" for bound in bounds)


def quality(paths: Sequence[Path]) -> None:
    measured, hashes = [], []
    for path in paths:
        image = opened(path)
        grey = grey_square(image)
        measured.append((sharpness(grey), clipped(grey), float(grey.mean())))
        hashes.append(np.frombuffer(perceptual_hash(image), np.uint8))
    sharp, extreme, level = np.array(measured).T
    print(f"  sharpness less than  {below(sharp, (10, 20, 50, 100))}")
    print(f"  clipped more than    {below(extreme, (0.1, 0.2, 0.3, 0.5), above=True)}")
    print("  level outside        " + ", ".join(
        f"{low} {high}: {np.mean((level < low) | (level > high)):.2%}" for low, high in ((20, 235), (40, 220))
    ))  # fmt: skip
    every = np.array(hashes)
    first, second = np.random.default_rng(0).integers(0, len(every), (2, 200_000))
    apart = np.bitwise_count(every[first] ^ every[second]).sum(axis=1)[first != second]
    print("  hashes of two photos " + ", ".join(
        f"{share:g} %: {np.percentile(apart, share):.0f}" for share in (0.01, 0.1, 1, 50)
    ) + " bits apart at most")  # fmt: skip
    copies = ", ".join(f"{bits}: {np.sum(find_copies(every, bits) >= 0)}" for bits in (0, 8, 16, 24, 32))
    print(f"  near-copies at bits  {copies}", flush=True)


def detect(paths: Sequence[Path], scale: int) -> tuple[list[Found | None], float]:
    """(what is found in each photo, milliseconds for one)."""
    detector, out = open_detector("centerface"), list[Found | None]()
    began = time.process_time()
    for path in paths:
        image = opened(path)
        image = image.resize((image.width * scale, image.height * scale))
        margin = int(AROUND * image.width)
        pixels = np.pad(np.asarray(image), ((margin, margin), (margin, margin), (0, 0)), "edge")
        face = choose_face(detector(pixels), *pixels.shape[:2])
        points = None if face is None else (np.array(face.points).reshape(5, 2) - margin) / image.width
        out.append(None if face is None or points is None else (face.score, points))
    return out, (time.process_time() - began) / len(paths) * 1000


def detection(paths: Sequence[Path]) -> None:
    for scale in (1, 2):
        found, each = detect(paths, scale)
        faces = [item for item in found if item is not None]
        scores, turns = np.array([f[0] for f in faces]), np.array([abs(turn(tuple(f[1].ravel()))) for f in faces])
        print(f"  detector at {scale} x       {len(faces) / len(found):.2%} of {len(found)}, {each:.0f} ms each; "
              f"score less than {below(scores, (0.4, 0.5))}; turn more than {below(turns, (0.3, 0.5), above=True)}",
              flush=True)  # fmt: skip


def landmarks(folder: Path, sample: int) -> None:
    with np.load(folder / "landmarks.npz", allow_pickle=False) as labels:
        files, points = labels["files"].tolist(), labels["points"]
    chosen = random.Random(0).sample(range(len(files)), min(sample, len(files)))
    for scale in (1, 2):
        errors = []
        for place, item in zip(chosen, detect([folder / files[n] for n in chosen], scale)[0], strict=True):
            if item is not None:
                marks = points[place]
                five = np.array([marks[36:42].mean(0), marks[42:48].mean(0), marks[30], marks[48], marks[54]])
                eyes = float(np.linalg.norm(five[1] - five[0]))
                errors.append(float(np.linalg.norm(item[1] - five, axis=1).mean()) / eyes)
        print(f"  points at {scale} x         {np.median(errors):.3f} eye distances off in the median, "
              f"{np.percentile(errors, 90):.3f} at 90 %, of {len(errors)}", flush=True)  # fmt: skip


def yaw(folder: Path) -> None:
    with open(folder / "labels.csv", encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    found, _ = detect([folder / row["file"] for row in rows], 2)
    for angle in sorted({abs(float(row["yaw"])) for row in rows}):
        items = [item for row, item in zip(rows, found, strict=True) if abs(float(row["yaw"])) == angle]
        turns = [abs(turn(tuple(item[1].ravel()))) for item in items if item is not None]
        print(f"  yaw {angle:3.0f}: found {len(turns)} of {len(items)}, turn {np.median(turns):.2f} in the median")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", type=Path, nargs="*", metavar="DIR")
    parser.add_argument("--sample", type=int, default=250)
    parser.add_argument("--landmarks", type=Path, metavar="LABELLED")
    parser.add_argument("--yaw", type=Path, metavar="LABELLED")
    args = parser.parse_args()
    for folder in args.folders:
        paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() in (".jpg", ".jpeg", ".png"))
        print(f"{folder.name}: {len(paths)} photos")
        quality(paths)
        detection(random.Random(0).sample(paths, min(args.sample, len(paths))))
    if args.landmarks is not None:
        print(f"{args.landmarks.name}, points against labels")
        landmarks(args.landmarks, args.sample)
    if args.yaw is not None:
        print(f"{args.yaw.name}, turn by labelled yaw")
        yaw(args.yaw)


if __name__ == "__main__":
    main()
