"""Where a Ray cluster of this machine alone keeps its sockets, whose paths have 107 bytes at most; what is said when
Ray does not start."""

import errno
import os
import tempfile
from pathlib import Path

import pytest

from fra_dist.exit_status import FAILED, REFUSED
from fra_dist.launch.ray_cluster import local_scratch, refused


def test_a_long_tmpdir_is_passed_over(tmp_path, monkeypatch):
    deep = tmp_path / "scratch/net/people/averylongusername/slurm_jobdir/1355700"
    deep.mkdir(parents=True)
    monkeypatch.setattr(tempfile, "tempdir", str(deep))
    place = Path(local_scratch())
    try:
        assert place.stat().st_mode & 0o077 == 0
        socket = f"{place}/session_2026-11-28_23-36-45_072176_2763699/sockets/plasma_store"
        assert len(os.fsencode(socket)) <= 107
        assert Path(local_scratch()) != place
    finally:
        place.rmdir()


def test_a_short_tmpdir_is_used(monkeypatch):
    with tempfile.TemporaryDirectory(prefix="s", dir="/tmp") as short:
        monkeypatch.setattr(tempfile, "tempdir", short)
        assert Path(local_scratch()).parent == Path(short)


SLOW = Exception(
    "The current node timed out during startup. This could happen because some of the raylet failed to startup"
)


@pytest.mark.parametrize(
    ("address", "error", "status", "said"),
    [
        ("local", SLOW, FAILED, "Ray did not start on this machine: The current node timed out during startup"),
        ("local", RuntimeError("Failed to start GCS."), FAILED, "start the same command again"),
        ("local", OSError(errno.ENOSPC, "No space left on device"), FAILED, "No space left"),
        ("local", PermissionError(errno.EACCES, "Permission denied", "/tmp"), REFUSED, "cannot start on this machine"),
        ("local", ValueError("The configured object store size exceeds /dev/shm"), REFUSED, "object store size"),
        ("auto", ConnectionError("Could not find any running Ray instance."), REFUSED, "`ray start --head`"),
        ("h:6379", ConnectionError("Failed to connect to Ray cluster at h:6379"), FAILED, "no answer from a Ray"),
        ("h:6379", RuntimeError("Version mismatch: The cluster was started with"), REFUSED, "Version mismatch"),
    ],
)
def test_a_start_that_may_succeed_next_time_has_the_status_for_it(address, error, status, said):
    found = refused(address, error)
    assert found.exit_status == status
    assert said in str(found)
