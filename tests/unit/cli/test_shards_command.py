import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fra_dist.cli.main import main
from fra_dist.cli.shards import configure
from fra_dist.data.shards.manifest import load_manifest


def photos(folder: Path, count: int) -> Path:
    folder.mkdir()
    for n in range(count):
        pixels = np.full((32, 32, 3), (n % 256, 128 - n % 100, 60), np.uint8)
        Image.fromarray(pixels).save(folder / f"{n:04d}.jpg", quality=90)
    return folder


def test_make(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = photos(tmp_path / "in", 10)
    (source / "zero.jpg").touch()
    (source / "empty.jpg").touch()
    (source / "text.png").write_text("text")
    out = tmp_path / "out"
    options = ["--shard-samples", "4", "--size", "20", "--quality", "80", "--workers", "1", "--order", "source"]
    assert main(["shards", "make", str(source), "--out", str(out), *options]) == 0
    said = capsys.readouterr().out
    assert f"{out}: 10 samples in 3 shards" in said
    assert "left out: 3 (2 empty, 1 not an image)" in said
    manifest = load_manifest(out)
    assert manifest.key(0) == "0000"
    assert manifest.index(0)["width"].tolist() == [20] * 4
    assert main(["shards", "make", str(source), "--out", str(out), *options]) == 0
    assert main(["shards", "make", str(source), "--out", str(out)]) == 2
    assert "--overwrite" in capsys.readouterr().err
    assert main(["shards", "make", str(source), "--out", str(out), "--shard-mb", "0.0103", "--overwrite"]) == 0
    assert [shard.samples for shard in load_manifest(out).shards] == [3, 3, 3, 1]
    assert {shard.bytes for shard in load_manifest(out).shards} == {10240}


def test_bad_input_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "empty").mkdir()
    here, out = str(tmp_path / "empty"), str(tmp_path / "out")
    for words in (
        ["make", str(tmp_path / "none"), "--out", out],
        ["make", here, "--out", out],
        ["make", "synthetic:4@64", "--out", out, "--size", "32"],
        ["make", "synthetic:4@64", "--out", out, "--shard-mb", "-2"],
        ["make", "synthetic:4@64", "--out", out, "--shard-mb", "nan"],
        ["make", "synthetic:4@64", "--out", out, "--quality", "101"],
        ["make", "synthetic:4@64", "--out", out, "--seed", "-1"],
        *([action, here] for action in ("index", "check", "stats", "ls")),
        ["view", here, "--out", str(tmp_path / "x.png")],
    ):
        assert main(["shards", *words]) == 2
        captured = capsys.readouterr()
        assert captured.err.startswith("fra-dist shards: ")
        assert captured.err.count("\n") == 1
        assert captured.out == ""


def test_words_that_argparse_refuses(capsys: pytest.CaptureFixture[str]) -> None:
    for words in (["make", "x"], ["make", "x", "--out", "y", "--shard-samples", "0"], ["nothing"], []):
        with pytest.raises(SystemExit) as stopped:
            main(["shards", *words])
        assert stopped.value.code == 2
    capsys.readouterr()


def test_check(shards: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    copy = Path(shutil.copytree(shards, tmp_path / "copy"))
    assert main(["shards", "check", str(copy), "--workers", "1"]) == 0
    assert capsys.readouterr().out == f"{copy}: 3 shards, 48 samples, 48 decoded: all is well\n"
    (copy / "shard-000001.tar").unlink()
    assert main(["shards", "check", str(copy), "--workers", "1", "--decode", "all"]) == 1
    said = capsys.readouterr().out
    assert "shard-000001.tar: cannot read: No such file or directory" in said
    assert "1 problem" in said
    assert main(["shards", "check", str(copy), "--decode", "some"]) == 2


def test_index(shards: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for tar in shards.glob("*.tar"):
        shutil.copy(tar, tmp_path)
    assert main(["shards", "index", str(tmp_path), "--workers", "1"]) == 0
    captured = capsys.readouterr()
    assert "48 samples in 3 shards" in captured.out
    assert "note: 48 samples have several images (jpg, mask.png); --image-ext" in captured.err
    assert main(["shards", "index", str(tmp_path), "--workers", "1", "--image-ext", "mask.png", "--decode"]) == 0
    assert load_manifest(tmp_path).image(0)[:4] == b"\x89PNG"


def test_stats(shards: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["shards", "stats", str(shards)]) == 0
    said = capsys.readouterr().out
    assert "48 samples in 3 shards" in said
    mean = load_manifest(shards).stats["mean"]
    assert f"data.mean='[{mean[0]:.4f}, {mean[1]:.4f}, {mean[2]:.4f}]'" in said
    assert main(["shards", "stats", str(shards), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["mean"] == mean


def test_ls(shards: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["shards", "ls", str(shards)]) == 0
    assert [line.split("\t")[0] for line in capsys.readouterr().out.splitlines()] == [
        f"shard-{n:06d}.tar" for n in range(3)
    ]
    for name in ("1", "shard-000001.tar"):
        assert main(["shards", "ls", str(shards), name]) == 0
        lines = capsys.readouterr().out.splitlines()
        assert len(lines) == 16
        assert lines[0].split("\t")[:3] == ["16", load_manifest(shards).key(16), "48x48"]
    assert main(["shards", "ls", str(shards), "9"]) == 2


def test_view(shards: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    plain, masks = tmp_path / "new/plain.png", tmp_path / "masks.png"
    assert main(["shards", "view", str(shards), "--out", str(plain), "--count", "9", "--tile", "48"]) == 0
    with Image.open(plain) as sheet:
        first = np.asarray(sheet.convert("RGB"))[4:52, 4:52]
    manifest = load_manifest(shards)
    from fra_dist.data.decoding.images import decode

    np.testing.assert_array_equal(first, decode(manifest.image(0)))
    assert main(["shards", "view", str(shards), "--out", str(masks), "--count", "9", "--masks", "--seed", "3"]) == 0
    with Image.open(masks) as sheet:
        assert sheet.size[0] > Image.open(plain).size[0]
    assert main(["shards", "view", str(shards), "--out", str(tmp_path / "x.nothing")]) == 2
    assert "name a .png" in capsys.readouterr().err


def test_the_commands_in_the_docs_exist() -> None:
    page = (Path(__file__).parents[3] / "docs/data.md").read_text()
    commands = [line for line in page.splitlines() if line.startswith("fra-dist shards ")]
    assert len(commands) > 10
    for command in commands:
        parser = argparse.ArgumentParser()
        configure(parser)
        parser.parse_args(command.split()[2:])


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_stopped_by_a_signal_it_goes_on(tmp_path: Path, how: signal.Signals) -> None:
    source, out = photos(tmp_path / "in", 600), tmp_path / "out"
    command = [sys.executable, "-m", "fra_dist.cli.main", "shards", "make", str(source)]
    options = ["--shard-samples", "8", "--workers", "1"]
    # The work of a shard is slowed down so that it is surely stopped in the middle.
    slow = "import time, os; import fra_dist.data.making.journal as j; f = j.os.fsync\n"
    slow += "j.os.fsync = lambda n: (time.sleep(0.05), f(n))\n"
    slow += "import sys; from fra_dist.cli.main import main; sys.exit(main(sys.argv[1:]))"
    process = subprocess.Popen(
        [sys.executable, "-c", slow, *command[3:], "--out", str(out), *options], stderr=subprocess.PIPE, text=True
    )
    deadline = time.monotonic() + 60
    while len(list(out.glob("*.tar"))) < 3 and time.monotonic() < deadline:
        time.sleep(0.02)
    os.kill(process.pid, how)
    said = process.communicate(timeout=60)[1]
    if how == signal.SIGINT:
        assert process.returncode == 130
        assert said.strip() == "stopped; the same command resumes from there"
        assert not list(out.glob("*.part"))
    assert not (out / "manifest.json").exists()
    done = len(list(out.glob("*.tar")))
    assert 3 <= done < 75
    assert main([*command[3:], "--out", str(out), *options]) == 0
    assert main([*command[3:], "--out", str(tmp_path / "whole"), *options]) == 0
    for path in (tmp_path / "whole").iterdir():
        assert (out / path.name).read_bytes() == path.read_bytes(), path.name
    assert len(list(out.iterdir())) == len(list((tmp_path / "whole").iterdir()))


def test_killed_while_it_looks_for_near_copies_it_goes_on(tmp_path: Path) -> None:
    source, out = tmp_path / "in", tmp_path / "out"
    source.mkdir()
    draws = np.random.default_rng(0)
    pixels = draws.integers(0, 256, (4, 4, 3), np.uint8)
    for n in range(300):  # every tenth is the one before it again
        if n % 10:
            pixels = draws.integers(0, 256, (4, 4, 3), np.uint8)
        Image.fromarray(pixels).resize((32, 32)).save(source / f"{n:04d}.jpg", quality=90)
    words = ["shards", "make", str(source), "--shard-samples", "50", "--workers", "1", "--near-copies", "--no-report"]
    slow = "import time, os; import fra_dist.data.making.journal as j; f = j.os.fsync\n"
    slow += "import fra_dist.data.making.selection as s; s._SAVED = 1\n"
    slow += "j.os.fsync = lambda n: (time.sleep(0.3), f(n))\n"
    slow += "import sys; from fra_dist.cli.main import main; sys.exit(main(sys.argv[1:]))"
    process = subprocess.Popen([sys.executable, "-c", slow, *words, "--out", str(out)], stderr=subprocess.DEVNULL)
    hashes, deadline = out / "hashes.jsonl", time.monotonic() + 60
    while (not hashes.exists() or hashes.read_bytes().count(b"\n") < 4) and time.monotonic() < deadline:
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGKILL)
    process.wait(timeout=60)
    assert 4 <= hashes.read_bytes().count(b"\n") < 10
    assert not list(out.glob("*.tar"))
    assert main([*words, "--out", str(out)]) == 0
    assert main([*words, "--out", str(tmp_path / "whole")]) == 0
    assert sorted(path.name for path in out.iterdir()) == sorted(path.name for path in (tmp_path / "whole").iterdir())
    for path in (tmp_path / "whole").iterdir():
        assert (out / path.name).read_bytes() == path.read_bytes(), path.name
    assert load_manifest(out).total == 300 - 29
