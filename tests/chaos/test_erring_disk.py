"""The preloaded library: it strikes once, at the N-th call of the process that has orders, below the run folder."""

import errno
import os
import subprocess
import sys

import pytest

from fra_dist.errors import LaunchError
from fra_dist.launch.chaos import erring_disk
from fra_dist.launch.chaos.erring_disk import FOLDER, build_layer

OPENS = """
import os, pathlib, sys
folder = pathlib.Path(sys.argv[1])
(folder / "run" / "before").write_text("x")
(folder / str(os.getpid())).write_text(sys.argv[2])
for name in (*("run/%d" % n for n in range(5)), "beside"):
    try:
        (folder / name).write_text("x" * 10)
        print((folder / name).stat().st_size)
    except OSError as error:
        print(error.errno)
"""


@pytest.fixture(scope="module")
def layer(tmp_path_factory):
    return build_layer(tmp_path_factory.mktemp("layer"))


def struck(layer, folder, orders):
    (folder / "run").mkdir()
    done = subprocess.run(
        [sys.executable, "-c", OPENS, folder, orders],
        env={**os.environ, "LD_PRELOAD": str(layer), FOLDER: str(folder)},
        capture_output=True,
        text=True,
    )
    return done.returncode, done.stdout.split(), [path.suffix for path in folder.glob("[0-9]*")]


def test_the_third_open_fails_once(layer, tmp_path):
    status, printed, left = struck(layer, tmp_path, f"o 3 1 {errno.ESTALE} 0")
    assert (status, printed) == (0, ["10", "10", str(errno.ESTALE), "10", "10", "10"])
    assert left == [".struck"]


def test_a_process_is_killed_at_its_call(layer, tmp_path):
    status, _, left = struck(layer, tmp_path, "w 2 1 0 2")
    assert (status, left) == (-9, [".struck"])
    assert sorted(path.name for path in (tmp_path / "run").iterdir()) == ["0", "1", "before"]
    assert (tmp_path / "run/1").stat().st_size == 0


def test_orders_that_no_call_met_stay(layer, tmp_path):
    status, printed, left = struck(layer, tmp_path, f"o 99 1 {errno.EIO} 0")
    assert (status, printed, left) == (0, ["10"] * 6, [""])


def test_what_cannot_be_compiled_is_one_line(tmp_path, monkeypatch):
    compiler = tmp_path / "cc"
    compiler.write_text("#!/bin/sh\necho first >&2\necho no such header >&2\nexit 1\n")
    compiler.chmod(0o755)
    monkeypatch.setattr(erring_disk.shutil, "which", lambda name: str(compiler))
    with pytest.raises(LaunchError, match=r"cc cannot compile the library: no such header$"):
        build_layer(tmp_path)
