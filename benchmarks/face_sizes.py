"""How well the detector of `fra-dist shards make` finds faces of every size, and how exact its points are.

    python benchmarks/face_sizes.py [--landmarks LABELLED] [--sample 40] [--detector centerface]

Portraits hold one face, of 20 to 2,000 pixels, in a photo a good half larger; in group photos of 1,600 and 4,000
pixels it lies at a random place among blotches. Faces are rendered, or those of LABELLED, a folder with a
`landmarks.npz` (`files`, and `points` (N, 68, 2) as shares of the side). The size of a face is 2.4 times the distance
from eyes to mouth. A face counts as found when its points are less than half an eye distance off; errors are in eye
distances, over the faces found. `eyes` is the distance of the eyes over the true one (median, and its tenth
percentile): points that shrink to the middle have less than 1. Times are CPU time of one core for a photo.
"""

import argparse
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from fra_dist.data.making.faces.detectors import choose_face, open_detector
from fra_dist.synthetic import render

SIZES = (20, 28, 40, 80, 160, 320, 600, 1000, 2000)
GROUPS = {1600: (20, 30, 40, 80, 160), 4000: (40, 80, 160)}
Pixels = NDArray[np.uint8]
Points = NDArray[np.float64]


def five(marks: Points) -> Points:
    return np.array([marks[36:42].mean(0), marks[42:48].mean(0), marks[30], marks[48], marks[54]])


def faces(folder: Path | None, count: int) -> Iterator[tuple[Image.Image, Points]]:
    """Square pictures of faces, and their five points as shares of the side."""
    if folder is None:
        drawn = render(np.arange(4 * count), 320)
        ahead = np.argsort(np.abs(drawn.pose).max(1))[:count]  # upright heads that look ahead
        for n in ahead.tolist():
            yield Image.fromarray(drawn.images[n]), five(drawn.landmarks[n]) / 320
        return
    with np.load(folder / "landmarks.npz", allow_pickle=False) as labels:
        files, points = labels["files"].tolist(), labels["points"]
    for n in np.random.default_rng(0).choice(len(files), min(count, len(files)), replace=False).tolist():
        with Image.open(folder / files[n]) as image:
            yield image.convert("RGB"), five(points[n])


def scaled(image: Image.Image, points: Points, size: int) -> Pixels:
    """The picture, with a face of `size` pixels."""
    length = 2.4 * np.linalg.norm(points[:2].mean(0) - points[3:].mean(0))
    side = max(8, round(size / float(length)))
    return np.asarray(image.resize((side, side), Image.Resampling.BICUBIC))


def portrait(face: Pixels) -> tuple[Pixels, tuple[int, int]]:
    room = len(face) // 3
    return np.pad(face, ((room, room), (room, room), (0, 0)), "edge"), (room, room)


def group(face: Pixels, longer: int, seed: int) -> tuple[Pixels, tuple[int, int]]:
    draws, height = np.random.default_rng(seed), longer * 3 // 4
    blotches = draws.integers(60, 200, (height // 16, longer // 16, 3)).astype(np.uint8)
    photo = np.array(Image.fromarray(blotches).resize((longer, height), Image.Resampling.BICUBIC))
    x, y = int(draws.integers(longer - len(face))), int(draws.integers(height - len(face)))
    photo[y : y + len(face), x : x + len(face)] = face
    return photo, (x, y)


def measure(name: str, detector: str, given: Iterable[tuple[Pixels, tuple[int, int], Points, int]]) -> None:
    errors, ratios, spent, count = list[float](), list[float](), 0.0, 0
    for photo, corner, points, side in given:
        count += 1
        began = time.process_time()
        found = choose_face(open_detector(detector)(photo), *photo.shape[:2])
        spent += time.process_time() - began
        if found is None or found.points is None:
            continue
        places = (np.reshape(found.points, (5, 2)) - corner) / side
        eyes = float(np.linalg.norm(points[1] - points[0]))
        error = float(np.linalg.norm(places - points, axis=1).mean()) / eyes
        if error < 0.5:
            errors.append(error)
            ratios.append(float(np.linalg.norm(places[1] - places[0])) / eyes)
    if errors:
        text = f"error {np.median(errors):.3f}, {np.percentile(errors, 90):.3f} at 90 %"
        text += f"  eyes {np.median(ratios):.2f}, {np.percentile(ratios, 10):.2f} at 10 %"
    else:
        text = "-"
    print(f"{name:24} found {len(errors):3} of {count}  {text}  {spent / max(count, 1) * 1000:6.0f} ms", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--landmarks", type=Path, metavar="LABELLED")
    parser.add_argument("--sample", type=int, default=40)
    parser.add_argument("--detector", default="centerface", help="centerface, or module:Class")
    parser.add_argument("--portraits", action="store_true", help="no group photos, which take most of the time")
    args = parser.parse_args()
    some = list(faces(args.landmarks, args.sample))
    for size in SIZES:
        cut = ((scaled(image, points, size), points) for image, points in some)
        given = ((*portrait(face), points, len(face)) for face, points in cut)
        measure(f"portrait, face {size}", args.detector, given)
    for longer, sizes in () if args.portraits else GROUPS.items():
        for size in sizes:
            cut = ((scaled(image, points, size), points) for image, points in some)
            given = ((*group(face, longer, n), points, len(face)) for n, (face, points) in enumerate(cut))
            measure(f"{longer} px, face {size}", args.detector, given)


if __name__ == "__main__":
    main()
