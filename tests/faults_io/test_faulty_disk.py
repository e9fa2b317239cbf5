"""A sample of the sweep in `sweep.py`; `make faults` runs it at its full length."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
pytestmark = pytest.mark.faults


@pytest.fixture(scope="module")
def library(tmp_path_factory):
    compiler = shutil.which("cc") or shutil.which("gcc")
    assert compiler, "the fault layer is compiled: install a C compiler"
    built = tmp_path_factory.mktemp("faults") / "faulty_disk.so"
    source = HERE / "faulty_disk.c"
    subprocess.run([compiler, "-O1", "-shared", "-fPIC", "-o", built, source, "-ldl"], check=True)
    return built


@pytest.mark.timeout(3600)
@pytest.mark.parametrize("fault", ["eio", "estale", "enospc", "short", "kill"])
@pytest.mark.parametrize("phase", ["run", "resume"])
def test_a_disk_that_errs_once_or_for_ever_loses_nothing(library, shards, tmp_path, phase, fault):
    every = os.environ.get("FRA_DIST_SWEEP_EVERY", "23")
    done = subprocess.run(
        [sys.executable, HERE / "sweep.py", tmp_path / "sweep", shards, phase, every],
        env={**os.environ, "LD_PRELOAD": str(library), "SWEEP_FAULTS": fault},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
