"""Damaged tars, photos and run folders by the thousand: nothing but an error of this package escapes, nothing is lost
unnamed.

    python -m tests.faults_io.fuzz [TARS PHOTOS RUNS]        4,000, 4,000 and 2,000 by default, a few minutes in all

Every input is a function of its number, so that one that went wrong can be made again. Prints what went wrong and how
many were tried; status 1 with any.
"""

import contextlib
import io
import json
import os
import random
import shutil
import sys
import tarfile
import tempfile
import traceback
from pathlib import Path

from PIL import Image

from fra_dist.cli.main import main
from fra_dist.data.decoding.images import BadImage, decode, probe
from fra_dist.data.making.listing import list_tar
from fra_dist.errors import FraError

PHOTOS, FORMS = 4, (tarfile.GNU_FORMAT, tarfile.PAX_FORMAT)
LIES = [None, True, -1, 10**30, 1.5, "", "x", "../x", "a\0b", "\ud800", [], {}, [[]] * 3, {"a": {"b": 1}}]


def damaged(content: bytes, draw: random.Random) -> bytes:
    """Bytes with one to four places overwritten, taken away, zeroed or inserted."""
    data = bytearray(content)
    for _ in range(draw.randint(1, 4)):
        at = draw.randrange(len(data)) if data else 0
        how = draw.choice(("turn", "cut", "zeros", "insert", "end"))
        if how == "turn" and data:
            data[at] ^= draw.randint(1, 255)
        elif how == "cut":
            del data[at : at + draw.choice((1, 100, 512, 3000))]
        elif how == "zeros":
            data[at : at + 512] = bytes(len(data[at : at + 512]))
        elif how == "insert":
            data[at:at] = draw.randbytes(draw.choice((1, 4, 512)))
        else:
            del data[at:]
    return bytes(data)


def photo(seed: int, **options: object) -> bytes:
    """A small JPEG of noise."""
    noise = random.Random(seed).randbytes(24 * 24 * 3)
    out = io.BytesIO()
    Image.frombytes("RGB", (24, 24), noise).save(out, "JPEG", **options)
    return out.getvalue()


def tar_of(photos: list[bytes], form: int) -> bytes:
    """A tar with one photo a member, one of them with a long name."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=form) as tar:
        for number, data in enumerate(photos):
            info = tarfile.TarInfo(f"{'long' * 40 if number == 1 else ''}{number}.jpg")
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return out.getvalue()


def check_tar(number: int, folder: Path) -> str:
    """What is wrong with how a damaged tar is listed; empty when nothing is."""
    draw = random.Random(number)
    photos = [photo(seed) for seed in range(PHOTOS)]
    path, content = folder / "one.tar", damaged(tar_of(photos, draw.choice(FORMS)), draw)
    path.write_bytes(content)
    try:
        found = list_tar(path)
    except FraError:
        return ""
    traces = sum(any(data[at : at + 32] in content for at in range(0, len(data) - 32, 32)) for data in photos)
    lost = traces - len(found.photos)  # of a photo that was cut out whole nothing can tell
    return f"{lost} photos are gone and nothing says so" if lost > 0 and not found.skipped and not found.ignored else ""


def check_photo(number: int, folder: Path) -> str:
    """What is wrong with how a damaged photo is decoded; empty when nothing is."""
    draw = random.Random(number)
    data = damaged(photo(number % 7, progressive=bool(number % 2), quality=draw.choice((30, 95))), draw)
    try:
        head = probe(data)
        pixels = decode(data)
    except BadImage:
        return ""
    size = (head.height, head.width)
    return "" if pixels.shape == (*size, 3) else f"its header says {size}, its pixels are {pixels.shape}"


def lie_in(text: str, draw: random.Random) -> str:
    """JSON, or lines of it, with one value replaced."""
    lines = text.splitlines() or [""]
    at = draw.randrange(len(lines)) if len(lines) > 1 and lines[0].startswith("{") and lines[0].endswith("}") else None
    try:
        value = json.loads(text if at is None else lines[at])
    except ValueError:
        return text + draw.choice(("\n{", "\0", "\n[[[[", "\n3", "\nnull\n"))
    if isinstance(value, dict) and value:
        value[draw.choice(sorted(value))] = draw.choice(LIES)
    changed = json.dumps(value)
    return changed if at is None else "\n".join([*lines[:at], changed, *lines[at + 1 :]]) + "\n"


def check_run(number: int, folder: Path, whole: Path) -> str:
    """What is wrong with how the commands speak of a damaged run folder; empty when nothing is."""
    draw, run = random.Random(number), folder / "run"
    shutil.rmtree(run, ignore_errors=True)
    shutil.copytree(whole, run)
    small = sorted(p for p in run.rglob("*") if p.is_file() and p.stat().st_size < 100_000)
    path = draw.choice(small)
    how = draw.choice(("bytes", "lie", "lie", "empty", "pipe", "folder", "gone"))
    if how == "bytes":
        path.write_bytes(damaged(path.read_bytes(), draw))
    elif how == "lie":
        path.write_text(lie_in(path.read_text(errors="replace"), draw), errors="surrogatepass")
    elif how == "empty":
        path.write_bytes(b"")
    else:
        path.unlink()
        if how == "pipe":
            os.mkfifo(path)
        elif how == "folder":
            path.mkdir()
    for words in (["status"], ["ckpt", "ls"], ["ckpt", "verify"]):
        said = io.StringIO()
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(said):
            status = main([*words, str(run)])
        if status not in (0, 1, 2) or (status == 2 and said.getvalue().count("\n") != 1):
            return f"{words} on {path.relative_to(run)} ({how}): status {status}, {said.getvalue()[:200]!r}"
    return ""


def problems(check, numbers, *places) -> list[str]:
    """One line for each number with which something is wrong."""
    found = []
    for number in numbers:
        try:
            wrong = check(number, *places)
        except BaseException as error:
            if isinstance(error, KeyboardInterrupt):
                raise
            wrong = "".join(traceback.format_exception_only(error)).strip() + traceback.format_exc()[-600:]
        if wrong:
            found.append(f"{check.__name__} {number}: {wrong}")
    return found


def small_run(folder: Path) -> Path:
    """A run of two steps with its checkpoints."""
    shards, run = folder / "shards", folder / "whole"
    quiet = contextlib.redirect_stdout(io.StringIO())
    with quiet, contextlib.redirect_stderr(io.StringIO()):
        assert main(["shards", "make", "synthetic:16@48", "--out", str(shards), "--no-report", "--workers", "1"]) == 0
        settings = ["train.global_batch=8", "train.steps=2", "train.device=cpu", "train.backend=torch"]
        settings += ["model.backbone=tiny", "model.width=16", "model.hidden=32", "log.every_steps=1"]
        settings += [
            "optim.warmup_steps=1",
            "checkpoint.every_steps=1",
            "log.heatmaps_every=0",
            "data.image_size=32",
            "log.samples=true",
        ]
        config = folder / "config.yaml"
        config.write_text("model: {decoder: {layers: 1, heads: 2, feedforward: 16}}\n")
        assert main(["pretrain", str(config), f"output={run}", f"data.shards={shards}", *settings]) == 0
    return run


def run_all(tars: int, photos: int, runs: int) -> list[str]:
    """All problems of so many inputs of each kind."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        found = problems(check_tar, range(tars), folder) + problems(check_photo, range(photos), folder)
        return found + (problems(check_run, range(runs), folder, small_run(folder)) if runs else [])


if __name__ == "__main__":
    counts = [int(word) for word in sys.argv[1:]] or [4000, 4000, 2000]
    wrong = run_all(*counts)
    print("\n".join(wrong))
    print(
        f"{sum(counts)} inputs ({counts[0]} tars, {counts[1]} photos, {counts[2]} run folders), {len(wrong)} problems"
    )
    sys.exit(bool(wrong))
