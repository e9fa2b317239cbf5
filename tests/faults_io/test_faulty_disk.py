"""A sample of the sweep in `sweep.py`: a few trials of each kind, with one rank and two."""

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from fra_dist.launch.chaos.erring_disk import build_layer

HERE = Path(__file__).parent


def sweep(folder, shards, phase, every, first="1", **settings):
    done = subprocess.run(
        [sys.executable, HERE / "sweep.py", folder / "sweep", shards, phase, every, first],
        env={**os.environ, **settings},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert " 0 with problems" in done.stdout


@pytest.mark.faults
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("fault", ["eio", "estale", "enospc", "short", "kill"])
@pytest.mark.parametrize("phase", ["run", "resume"])
def test_a_disk_that_errs_once_or_for_ever_loses_nothing(shards, tmp_path, phase, fault):
    sweep(tmp_path, shards, phase, os.environ.get("FRA_DIST_SWEEP_EVERY", "47"), SWEEP_FAULTS=fault)


@pytest.mark.faults
@pytest.mark.timeout(3600)
@pytest.mark.parametrize(("fault", "every"), [("eio", "97"), ("kill", "197")])
@pytest.mark.parametrize("struck", ["0", "1"])
def test_of_two_ranks_either_may_meet_the_fault(shards, tmp_path, struck, fault, every):
    sweep(tmp_path, shards, "resume", every, SWEEP_FAULTS=fault, SWEEP_RANKS="2", SWEEP_STRUCK=struck)


@pytest.mark.faults
@pytest.mark.timeout(3600)
def test_a_disk_that_hangs_ends_the_attempt_in_bounded_time(shards, tmp_path):
    sweep(tmp_path, shards, "resume", "199", SWEEP_FAULTS="hang", SWEEP_KINDS="orw")


@pytest.mark.faults
@pytest.mark.timeout(3600)
def test_a_disk_that_hangs_at_the_very_end_ends_the_attempt_in_bounded_time(shards, tmp_path):
    """After the last step there is no watchdog any more."""
    sweep(tmp_path, shards, "run", "1000", first="-1", SWEEP_FAULTS="hang", SWEEP_KINDS="ow", SWEEP_LIMIT="10")


@pytest.mark.timeout(600)
def test_a_few_reads_that_fail_at_a_resumption_lose_nothing(shards, tmp_path):
    """What the gate runs of it: one call of each of three kinds."""
    sweep(tmp_path, shards, "resume", "1000", SWEEP_FAULTS="estale", SWEEP_KINDS="otd")


READERS = """
import ctypes, sys
from contextlib import ExitStack
from pathlib import Path
import torch
from safetensors.torch import save_file
from fra_dist import files
from fra_dist.layouts.reading import read_file
from fra_dist.train.checkpoints import compare, reading

def compared(path):
    with ExitStack() as stack:
        return {"a": compare._open(stack, path).get_tensor("a")}

files.PAUSES = (0.0, 0.0)
disk, folder, number = ctypes.CDLL(None), Path(sys.argv[1]), int(sys.argv[2])
save_file({"a": torch.arange(5.0)}, folder / "a.safetensors")
torch.save({"a": torch.arange(5.0)}, folder / "a.pth")
safe, pickled = folder / "a.safetensors", folder / "a.pth"
for read, path in ((reading._tensors, safe), (compared, safe), (lambda p: read_file(p).tensors, safe),
                   (lambda p: read_file(p).tensors, pickled)):
    for kind in b"ort":
        disk.faulty_set(str(folder).encode(), bytes([kind]), 0, 0, 0, 0)
        read(path)
        for nth in range(1, disk.faulty_count() + 1):
            disk.faulty_set(str(folder).encode(), bytes([kind]), nth, 1, number, 0)
            assert read(path)["a"].tolist() == [0, 1, 2, 3, 4], (path, nth)
            print(kind, nth)
"""


@pytest.mark.parametrize("number", [errno.EIO, errno.ESTALE])
def test_whoever_reads_tensors_survives_an_error_of_any_single_call(tmp_path, number):
    """safetensors and torch open a file twice, and tell the errors of the two in different exceptions."""
    layer = build_layer(tmp_path)
    (tmp_path / "weights").mkdir()
    done = subprocess.run(
        [sys.executable, "-c", READERS, tmp_path / "weights", str(number)],
        env={**os.environ, "LD_PRELOAD": str(layer)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert len(done.stdout.splitlines()) > 8


PHOTOS = """
import ctypes, sys
from pathlib import Path
from PIL import Image
from fra_dist import files
from fra_dist.cli.main import main

files.PAUSES = ()
disk, folder, number = ctypes.CDLL(None), Path(sys.argv[1]), int(sys.argv[2])
(folder / "photos").mkdir()
for name in "ab":
    Image.new("RGB", (40, 40), (90, 120, 60)).save(folder / "photos" / f"{name}.png")
words = ["heatmaps", "small-synthetic", str(folder / "photos"), "--out", str(folder / "out"), "--tile", "32"]
for kind in b"or":
    for nth in (1, 2, 3):
        disk.faulty_set(str(folder / "photos").encode(), bytes([kind]), nth, 1, number, 0)
        print(main(words), flush=True)
disk.faulty_set(b"", b"", 0, 0, 0, 0)
print(main(words))
"""


@pytest.mark.parametrize("number", [errno.EIO, errno.ESTALE])
def test_a_photo_that_the_disk_does_not_give_is_not_left_out_of_the_heatmaps(tmp_path, number):
    layer = build_layer(tmp_path)
    (tmp_path / "work").mkdir()
    done = subprocess.run(
        [sys.executable, "-c", PHOTOS, tmp_path / "work", str(number)],
        env={**os.environ, "LD_PRELOAD": str(layer)},
        capture_output=True,
        text=True,
    )
    assert "skipped" not in done.stderr + done.stdout
    assert "Traceback" not in done.stderr
    statuses = [int(line) for line in done.stdout.splitlines() if line.isdecimal()]
    assert statuses[0] == 1
    assert set(statuses) == {0, 1}
    assert statuses[-1] == 0
    refused = done.stderr.count(f"{os.strerror(number)}; look at that disk or its network, then start the same command")
    assert refused == statuses.count(1)
    assert done.returncode == 0
