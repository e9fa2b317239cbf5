"""Where a Ray cluster of this machine alone keeps its sockets, whose paths have 107 bytes at most."""

import os
import tempfile
from pathlib import Path

from fra_dist.launch.ray_cluster import local_scratch


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
