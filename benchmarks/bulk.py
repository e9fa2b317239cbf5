"""Many photos and large checkpoints beside the plainest program for the same bytes: `python benchmarks/bulk.py`.

Shards: photos a second of processor time of one core, `shards make` as photos are and scaled to 224 pixels, beside
photos copied into a tar by `tarfile`, and decoded, scaled (INTER_AREA), encoded and put into a tar with OpenCV, as
img2dataset does it. Neither of these looks whether a photo is whole, keeps an index or writes statistics.

Checkpoints: MB/s on the clock, written as a run does (checksums, flushed to the disk, renamed) beside `dd conv=fsync`,
and read as a resumption does (checksums verified, tensors copied) beside `dd`, both with no page of the files in
memory. SHA-256 alone, over bytes in memory, says what checksums cost. `--folder` chooses the disk.

Everything takes turns; ratios are medians over the rounds. --out adds a row to DIR/bulk.jsonl.
"""

import argparse
import hashlib
import io
import json
import os
import platform
import shutil
import statistics
import subprocess
import tarfile
import tempfile
import time
from collections.abc import Callable, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from prepare import photos, timed

from fra_dist.config import Config
from fra_dist.data.making.cleaning import PhotoRules
from fra_dist.data.making.shard_making import ShardOptions, make_shards
from fra_dist.train.checkpoints.reading import find_checkpoint
from fra_dist.train.checkpoints.writing import Contents, save_checkpoint

SIDE, QUALITY = 224, 92
TENSOR = 1 << 20
"""Numbers of each tensor of a checkpoint."""
Rounds = list[dict[str, float]]


def copied(files: Sequence[Path], target: Path, change: Callable[[bytes], bytes] = lambda data: data) -> None:
    """The files, changed by a function of their bytes, in a tar."""
    with tarfile.open(target, "w") as tar:
        for file in files:
            data = change(file.read_bytes())
            member = tarfile.TarInfo(file.name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))


def scaled(data: bytes) -> bytes:
    """A photo with a shorter side of 224 pixels at most, by OpenCV."""
    image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    height, width = image.shape[:2]
    if (share := SIDE / min(height, width)) < 1:
        image = cv2.resize(image, (round(width * share), round(height * share)), interpolation=cv2.INTER_AREA)
    return bytes(cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, QUALITY])[1].tobytes())


def shards(folder: Path, count: int, rounds: int) -> Rounds:
    """Photos a second of processor time of each way, by round."""
    cv2.setNumThreads(1)
    photos(folder / "photos", count)
    files = sorted((folder / "photos").rglob("*.jpg"))

    def ours(size: int | None) -> None:
        options = ShardOptions(workers=1, photos=PhotoRules(size=size, quality=QUALITY), overwrite=True)
        make_shards(folder / "photos", folder / "made", options)

    ways: dict[str, Callable[[], None]] = {
        "copied": lambda: copied(files, folder / "copied.tar"),
        "ours as they are": lambda: ours(None),
        "OpenCV scaled": lambda: copied(files, folder / "scaled.tar", scaled),
        "ours scaled": lambda: ours(SIDE),
    }
    ways["ours as they are"]()  # what is compiled once
    found: Rounds = []
    for number in range(rounds):
        found.append({})
        for name in sorted(ways, reverse=bool(number % 2)):
            found[-1][name] = count / timed(ways[name])[1]
            shutil.rmtree(folder / "made", ignore_errors=True)
    return found


def forget(path: Path) -> None:
    """Let the kernel forget the pages of a file or of the files of a folder, which are on the disk."""
    for file in path.iterdir() if path.is_dir() else [path]:
        handle = os.open(file, os.O_RDONLY)
        os.fsync(handle)
        os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(handle)


def checkpoints(folder: Path, megabytes: int, rounds: int) -> Rounds:
    """MB/s of each way, by round."""
    generator = torch.Generator().manual_seed(0)
    values = [torch.randn(TENSOR, generator=generator) for _ in range(max(3, megabytes * 10**6 // (4 * TENSOR)))]
    third = len(values) // 3  # two networks and one momentum, as with LARS
    model = {f"model{n}": value for n, value in enumerate(values[third:])}
    contents = Contents(1, Config(), model, {f"state{n}": value for n, value in enumerate(values[:third])}, {})
    raw = [memoryview(value.numpy()).cast("B") for value in values]
    size = sum(one.nbytes for one in raw) / 1e6
    source, copy = folder / "source", folder / "copy"
    with source.open("wb") as stream:
        stream.writelines(raw)
        os.fsync(stream.fileno())

    def hashed() -> None:
        digest = hashlib.sha256()
        for one in raw:
            digest.update(one)

    def read() -> None:
        found = find_checkpoint(folder / "checkpoints")
        for part in (found.model(), found.optimizer()):
            for value in part.values():
                value.clone()

    found: Rounds = []
    for number in range(rounds + 1):
        writing: dict[str, Callable[[], object]] = {
            "dd write": lambda: dd(f"if={source}", f"of={copy}", "conv=fsync"),
            "ours write": lambda: save_checkpoint(folder / "checkpoints", contents),
        }
        reading: dict[str, Callable[[], object]] = {
            "dd read": lambda: dd(f"if={copy}", "of=/dev/null"),
            "ours read": read,
        }
        found.append({})
        for ways in (writing, {"SHA-256": hashed}, reading):
            for path in (copy, folder / "checkpoints" / "step-00000001") if ways is reading else ():
                forget(path)
            for name in sorted(ways, reverse=bool(number % 2)):
                found[-1][name] = size / timed(ways[name])[0]
        shutil.rmtree(folder / "checkpoints")
        copy.unlink()
    return found[1:]


def dd(*words: str) -> None:
    subprocess.run(["dd", "bs=4M", *words], check=True, capture_output=True)


def summary(rounds: Rounds, pairs: dict[str, tuple[str, str]]) -> dict[str, Any]:
    """Median rate of each way, and of each pair (ours, theirs) the median over the rounds of ours over theirs."""
    row: dict[str, Any] = {name: round(statistics.median(one[name] for one in rounds), 1) for name in rounds[0]}
    ratios = {
        title: round(statistics.median(one[ours] / one[theirs] for one in rounds), 3)
        for title, (ours, theirs) in pairs.items()
    }
    return row | {"ratios": ratios, "rounds": len(rounds)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=("shards", "checkpoints"))
    parser.add_argument("--photos", type=int, default=2000, help="of 250 pixels (%(default)s)")
    parser.add_argument("--megabytes", type=int, default=400, help="of a checkpoint (%(default)s)")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--folder", type=Path, help="where files are written (a temporary folder)")
    parser.add_argument("--out", type=Path, metavar="DIR", help="adds a row to DIR/bulk.jsonl")
    args = parser.parse_args()
    torch.set_num_threads(1)
    row: dict[str, Any] = {"photos": args.photos, "megabytes": args.megabytes}
    with tempfile.TemporaryDirectory(dir=args.folder) as scratch:
        if args.only != "checkpoints":
            pairs = {"as they are": ("ours as they are", "copied"), "scaled": ("ours scaled", "OpenCV scaled")}
            row["shards"] = summary(shards(Path(scratch), args.photos, args.rounds), pairs)
            print(json.dumps(row["shards"], indent=1), flush=True)
        if args.only != "shards":
            pairs = {"write": ("ours write", "dd write"), "read": ("ours read", "dd read")}
            row["checkpoints"] = summary(checkpoints(Path(scratch), args.megabytes, args.rounds), pairs)
            print(json.dumps(row["checkpoints"], indent=1), flush=True)
    if args.out is not None:
        versions = {name: metadata.version(name) for name in ("torch", "pillow", "opencv-python")}
        row |= {"machine": f"{platform.machine()}, {os.cpu_count()} cores", "load": os.getloadavg()[0]}
        args.out.mkdir(parents=True, exist_ok=True)
        with (args.out / "bulk.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps(row | {"versions": versions, "date": time.strftime("%Y-%m-%d")}) + "\n")


if __name__ == "__main__":
    main()
