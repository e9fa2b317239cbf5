"""fra_dist on a CPU beside what people would use instead: `lightly`'s BYOL, and other ways of reading photos.

    python benchmarks/peers.py --out benchmarks/results      # about ten minutes; --quick: two, tiny sizes

The others run in an environment of their own, which is made from `peers-requirements.txt` in build/peers at the first
call. Everybody gets the same photos, rendered faces as JPEGs of 320 pixels, the same backbone, heads, batch and
augmentations. Each way is a process (`peer_ours.py`, `peer_others.py`), and they take turns, so that other load on the
machine meets all of them. Compared are

    step     BYOL, ResNet-18, 112 px, 32 images: lightly's documented example as it comes and channels-last, and ours
             (whose optimiser is LARS, where the example has SGD), in fp32 and, where the CPU computes in it, bf16
    loop     the same with everything from photos on: lightly's data set, transforms and DataLoader; our shards and DALI
    input    both views with all augmentations, at 224 and 112 px

The table has images a second by time of processors (a process with its workers), which other load changes little, and
by the clock; "ours over" is the median over rounds of our rate over theirs.
"""

import argparse
import hashlib
import json
import os
import shutil
import statistics
import subprocess
import sys
import tarfile
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from peer_process import Answer, PeerProcess, last_line

from fra_dist.config import Config
from fra_dist.data.making.shard_making import ShardOptions, make_shards
from fra_dist.train.cpu_measurements import machine
from fra_dist.train.precision import cpu_computes_bf16
from fra_dist.train.run_dir.folder import versions

HERE = Path(__file__).parent
REQUIREMENTS = HERE / "peers-requirements.txt"
FFCV = "ffcv==1.0.2"
PACKAGES = "lightly", "torch", "torchvision", "webdataset", "mosaicml-streaming", "spdl"
INPUTS = "torchvision v2, webdataset", "Pillow, webdataset", "mosaicml-streaming", "spdl", "lightly"
OURS = "ours"
AHEAD = 8
"""Batches that are not timed, because they may lie ready in queues of the input."""

Row = dict[str, Any]


def main(words: list[str] | None = None) -> int:
    args = arguments(words)
    python, notes = environment(args.environment)
    torch.set_num_threads(args.threads)  # of which `machine` tells
    print(f"{machine()}, load {os.getloadavg()[0]:.1f}")
    for note in notes:
        print(note)
    with tempfile.TemporaryDirectory() as scratch:
        settings = photos(Path(scratch), 64 if args.quick else 768) | {"threads": args.threads}
        chosen = [part for part in parts(args) if part["part"] in args.only]
        end = time.monotonic() + 60 * args.minutes
        theirs = installed(python)
        for number, part in enumerate(chosen):
            now = time.monotonic()
            rows = compare(settings | part, python, args, now + (end - now) / (len(chosen) - number))
            if args.out:
                write(args.out, rows, theirs, notes)
    return 0


def arguments(words: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, help="folder; appends to peers.jsonl in it")
    parser.add_argument("--quick", action="store_true", help="tiny sizes and two rounds")
    parser.add_argument("--minutes", type=float, help="for everything after photos are rendered (10, with --quick 2)")
    parser.add_argument("--rounds", type=int, default=7, help="the most turns of each way (7); two at the least")
    parser.add_argument(
        "--threads", type=int, default=1, help="of torch and of the input, and DataLoader's workers (1)"
    )
    parser.add_argument("--only", nargs="+", choices=["step", "loop", "input"], default=["step", "loop", "input"])
    parser.add_argument("--dtypes", nargs="+", choices=["float32", "bfloat16"], help="all that the CPU computes in")
    parser.add_argument(
        "--environment", type=Path, default=HERE.parent / "build" / "peers", help="folder of the others"
    )
    args = parser.parse_args(words)
    args.minutes = args.minutes or (2 if args.quick else 10)
    args.dtypes = args.dtypes or ["float32", *(["bfloat16"] if cpu_computes_bf16() else [])]
    return args


def environment(folder: Path) -> tuple[Path, list[str]]:
    """Make the environment of the others unless it is there; returns its Python and notes about what is missing."""
    wanted = hashlib.sha256(REQUIREMENTS.read_bytes()).hexdigest()
    stamp, python = folder / "made.json", folder / "bin" / "python"
    if not stamp.is_file() or json.loads(stamp.read_text())["requirements"] != wanted:
        print(f"installing {REQUIREMENTS.name} in {folder}", flush=True)
        shutil.rmtree(folder, ignore_errors=True)
        subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True)
        install(python, "-r", str(REQUIREMENTS))
        link_ffmpeg(folder)
        notes = []
        try:
            install(python, FFCV)
        except RuntimeError as error:
            notes = [f"{FFCV} does not install here: {error}"]
        else:
            notes = [f"{FFCV} installs here, but this benchmark has no way with it yet"]
        stamp.write_text(json.dumps({"requirements": wanted, "notes": notes}))
    return python, json.loads(stamp.read_text())["notes"]


def link_ffmpeg(folder: Path) -> None:
    """Let spdl find the FFmpeg that PyAV brings, by the names of a system that has it."""
    links = folder / "ffmpeg"
    links.mkdir()
    for library in folder.resolve().glob("lib/python*/site-packages/av.libs/lib*.so.*"):
        name, _, version = library.name.partition(".so.")
        short = f"{name.rpartition('-')[0]}.so.{version.partition('.')[0]}"  # the last part is a digest
        for link in {short, library.name}:
            (links / link).symlink_to(library)


def install(python: Path, *what: str) -> None:
    """By uv where our environment has it, else by pip. Raises RuntimeError with the line of what failed."""
    uv = Path(sys.executable).parent / "uv"
    pip = [sys.executable, "-m", "pip", "--python", str(python), "install", "--quiet"]
    tool = [str(uv), "pip", "install", "--quiet", "--python", str(python)] if uv.exists() else pip
    done = subprocess.run([*tool, *what], capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(last_line(done.stderr + done.stdout))


def installed(python: Path) -> dict[str, str]:
    """Versions of the packages that are compared."""
    code = "import sys, json; from importlib.metadata import version; "
    code += "print(json.dumps({name: version(name) for name in sys.argv[1:]}))"
    return json.loads(subprocess.check_output([str(python), "-c", code, *PACKAGES], text=True))


def photos(scratch: Path, count: int) -> Row:
    """Render faces into shards, and the same JPEGs into a folder; returns where, and how views are drawn."""
    shards, folder = scratch / "shards", scratch / "photos"
    make_shards(f"synthetic:{count}@320", shards, ShardOptions(shard_samples=64))
    folder.mkdir()
    for path in sorted(shards.glob("*.tar")):
        with tarfile.open(path) as tar:
            for member in tar:
                if member.name.endswith(".jpg"):
                    content = tar.extractfile(member)
                    assert content is not None
                    (folder / Path(member.name).name).write_bytes(content.read())
    data = Config().data
    views = [data.view1.model_dump(), data.view2.model_dump()]
    made = {"shards": str(shards), "photos": str(folder), "scratch": str(scratch)}
    return made | {"views": views, "mean": data.mean, "std": data.std}


def parts(args: argparse.Namespace) -> list[Row]:
    """What is compared with what: one table each."""
    size, batch = (64, 4) if args.quick else (112, 32)
    common = {"backbone": "resnet18", "size": size, "batch": batch}
    found = [common | {"part": part, "dtype": dtype} for part in ("step", "loop") for dtype in args.dtypes]
    inputs = {"part": "input", "batch": batch, "backbone": "resnet18", "dtype": "float32"}
    return found + [inputs | {"size": size} for size in ([64] if args.quick else [224, 112])]


def ways(part: Row) -> dict[str, Row]:
    """The ways of a part: what their processes get beside its settings."""
    if part["part"] == "input":
        return {name: {"way": name, "channels_last": False} for name in (*INPUTS, OURS)}
    layouts = {"lightly": False, "lightly, channels-last": True}
    return {name: {"way": "lightly", "channels_last": last} for name, last in layouts.items()} | {OURS: {"way": OURS}}


def compare(part: Row, python: Path, args: argparse.Namespace, end: float) -> list[Row]:
    """Time the ways of a part in turn. After two rounds, none is begun that would end after `end` (of
    `time.monotonic`).
    """
    kind = "" if part["part"] == "input" else f"{part['backbone']}, {part['dtype']}, "
    print(f"\n{part['part']}: {kind}{part['size']} px, batches of {part['batch']}", flush=True)
    logs = Path(part["scratch"])
    running, failed = {}, {}
    for number, (name, own) in enumerate(ways(part).items()):
        log = logs / f"{number}.log"
        if name == OURS:
            running[name] = PeerProcess(Path(sys.executable), HERE / "peer_ours.py", part | own, {}, log)
        else:
            ffmpeg = {"LD_LIBRARY_PATH": str(args.environment / "ffmpeg")}
            running[name] = PeerProcess(python, HERE / "peer_others.py", part | own, ffmpeg, log)
    try:
        answers = take_turns(running, failed, part, args, end)
    finally:
        for process in running.values():
            process.close()
    rows = [_row(part, name, of_way, answers[OURS]) for name, of_way in answers.items()]
    show(rows, failed)
    return rows


def take_turns(
    running: dict[str, PeerProcess], failed: dict[str, str], part: Row, args: argparse.Namespace, end: float
) -> dict[str, list[Answer]]:
    """What each way answered in each round. One that fails is left out, with the reason in `failed`; ours may not."""
    warm = 1 if part["part"] == "step" else AHEAD
    count = {"step": 1, "loop": 2, "input": 2 if args.quick else 8}[part["part"]]

    def ask(name: str, ahead: int, units: int) -> Answer | None:
        try:
            return running[name].ask(ahead, units)
        except RuntimeError as error:
            if name == OURS:
                raise SystemExit(f"peers: {OURS}: {error}") from None
            failed[name] = str(error)
            return None

    for name in running:  # start, and compile what is compiled at the first batch
        ask(name, warm, 1)
    answers: dict[str, list[Answer]] = {name: [] for name in running if name not in failed}
    for number in range(2 if args.quick else max(2, args.rounds)):
        began = time.monotonic()
        for name, before in list(answers.items()):
            answer = ask(name, 0 if part["part"] == "step" else AHEAD // 2, count)
            if answer is None:
                del answers[name]
            else:
                before.append(answer)
        if number >= 1 and 2 * time.monotonic() - began > end:
            break
    return answers


def _row(part: Row, name: str, answers: list[Answer], ours: list[Answer]) -> Row:
    row = {key: part[key] for key in ("part", "backbone", "dtype", "size", "batch", "threads")}
    row |= {"way": name, "rounds": len(answers), "load": os.getloadavg()[0]}
    for clock in ("cpu", "wall"):
        row[f"{clock}_rate"] = statistics.median(one["images"] / one[clock] for one in answers)
        pairs = zip(answers, ours, strict=True)
        ratios = ((own["images"] / own[clock]) / (one["images"] / one[clock]) for one, own in pairs)
        row[f"ours_over_{clock}"] = statistics.median(ratios)
    return row


def show(rows: list[Row], failed: dict[str, str]) -> None:
    """Print the table of a part."""
    print(f"{rows[0]['rounds']} rounds, load {os.getloadavg()[0]:.1f}")
    print(f"{'images a second':<30}{'of processors':>14}{'ours over':>11}{'by the clock':>14}{'ours over':>11}")
    for row in rows:
        figures = (f"{row[f'{clock}_rate']:14.1f}{row[f'ours_over_{clock}']:11.2f}" for clock in ("cpu", "wall"))
        print(f"{row['way']:<30}{''.join(figures)}", flush=True)
    for name, why in failed.items():
        print(f"{name:<30}failed: {why}")


def write(out: Path, rows: list[Row], theirs: dict[str, str], notes: list[str]) -> None:
    """Append the rows, with versions of both environments."""
    out.mkdir(parents=True, exist_ok=True)
    common = {"date": time.strftime("%Y-%m-%d"), "cpu": machine(), "peers": theirs, "notes": notes}
    common |= {"versions": versions(torch.device("cpu"))}
    with (out / "peers.jsonl").open("a") as file:
        file.writelines(json.dumps(row | common) + "\n" for row in rows)


if __name__ == "__main__":
    sys.exit(main())
