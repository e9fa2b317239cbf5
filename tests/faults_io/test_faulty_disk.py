"""A sample of the sweep in `sweep.py`: a few trials of each kind, with one rank and two."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent


def sweep(folder, shards, phase, every, **settings):
    done = subprocess.run(
        [sys.executable, HERE / "sweep.py", folder / "sweep", shards, phase, every],
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


@pytest.mark.timeout(600)
def test_a_few_reads_that_fail_at_a_resumption_lose_nothing(shards, tmp_path):
    """What the gate runs of it: one call of each of three kinds."""
    sweep(tmp_path, shards, "resume", "1000", SWEEP_FAULTS="estale", SWEEP_KINDS="otd")
