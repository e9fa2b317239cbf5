"""Locks where flock does not work, on real files and with real processes."""

import errno
import fcntl
import os
import subprocess
import sys
import time

import pytest

from fra_dist import files, leases
from fra_dist.distributed.environment import LaunchName
from fra_dist.errors import LaunchError
from fra_dist.train.run_dir.fence import Claim, is_locked


@pytest.fixture(params=[errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP])
def without_flock(request, monkeypatch):
    def flock(handle, kind):
        raise OSError(request.param, os.strerror(request.param))

    monkeypatch.setattr(fcntl, "flock", flock)


def grow_old(path, seconds):
    before = path.stat().st_mtime - seconds
    os.utime(path, (before, before))


def test_one_holds_a_lease_and_the_next_after_it(tmp_path):
    one, two = leases.Lease(tmp_path / ".lock"), leases.Lease(tmp_path / ".lock")
    assert one.take()
    assert not two.take()
    assert leases.is_leased(tmp_path / ".lock")
    one.release()
    assert not leases.is_leased(tmp_path / ".lock")
    assert two.take()
    two.release()
    assert os.listdir(tmp_path) == []


def test_the_lease_of_a_process_that_died_expires(tmp_path):
    take = f"assert Lease(pathlib.Path({str(tmp_path / 'l')!r})).take()"
    text = f"import os, pathlib; from fra_dist.leases import Lease; {take}; os._exit(0)"
    subprocess.run([sys.executable, "-c", text], check=True)
    lease = leases.Lease(tmp_path / "l")
    assert not lease.take()
    grow_old(lease.path, leases.EXPIRES + 1)
    assert lease.take()
    lease.release()


def test_a_holder_renews_and_notices_that_another_has_taken_over(tmp_path, monkeypatch):
    monkeypatch.setattr(leases, "RENEWED", 0.02)
    one = leases.Lease(tmp_path / "l")
    assert one.take()
    grow_old(one.path, 1000)
    end = time.monotonic() + 60
    while leases.age_of(one.path) > 500:
        assert time.monotonic() < end
        time.sleep(0.02)
    one.path.write_text("another")
    one.release()
    assert one.path.read_text() == "another"


def test_a_lease_that_a_full_disk_did_not_take_locks_nobody_out(tmp_path, monkeypatch):
    def full(handle, data):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    one = leases.Lease(tmp_path / "l")
    with monkeypatch.context() as patch:
        patch.setattr(leases.os, "write", full)
        with pytest.raises(OSError, match="No space left"):
            one.take()
    assert os.listdir(tmp_path) == []
    assert one.take()
    one.release()


@pytest.mark.parametrize("number", [errno.EIO, errno.ESTALE, errno.ENOSPC])
def test_a_lease_is_not_judged_by_another_clock_because_the_disk_errs(tmp_path, monkeypatch, number):
    def fail(path, text):
        raise OSError(number, os.strerror(number))

    one = leases.Lease(tmp_path / "l")
    assert one.take()
    monkeypatch.setattr(files, "PAUSES", (0.0,))
    monkeypatch.setattr(leases.time, "time", lambda: one.path.stat().st_mtime + 1000)  # this machine's clock is ahead
    with monkeypatch.context() as patch:
        patch.setattr(leases.Path, "write_text", fail)
        with pytest.raises(OSError, match=os.strerror(number)):
            leases.Lease(tmp_path / "l").take()
    assert not leases.Lease(tmp_path / "l").take()
    one.release()


def test_a_run_folder_without_flock_has_one_writer(tmp_path, without_flock):
    claim = Claim.take(tmp_path, LaunchName("one"))
    assert is_locked(tmp_path)
    with pytest.raises(LaunchError, match="is writing to"):
        Claim.take(tmp_path, LaunchName("two"))
    claim.release()
    assert not is_locked(tmp_path)
    Claim.take(tmp_path, LaunchName("two")).release()


def test_a_later_attempt_of_the_same_launch_takes_the_lease_over(tmp_path, without_flock):
    one = Claim.take(tmp_path, LaunchName("job", 1))
    two = Claim.take(tmp_path, LaunchName("job", 2), patience=0.2)
    one.release()
    assert is_locked(tmp_path)
    two.release()
    assert not is_locked(tmp_path)
