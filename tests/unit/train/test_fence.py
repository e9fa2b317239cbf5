import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from fra_dist.distributed.environment import LaunchName
from fra_dist.errors import LaunchError
from fra_dist.train.run_dir.fence import Claim, OwnerUnreadable, Superseded, is_locked, read_attempt


def test_attempts_are_numbered(tmp_path):
    for number in (1, 2, 3):
        claim = Claim.take(tmp_path, LaunchName("a"))
        assert claim.attempt == number
        assert is_locked(tmp_path)
        claim.release()
        assert not is_locked(tmp_path)
    assert read_attempt(tmp_path)["attempt"] == 3


def test_another_launch_is_refused_with_the_name_of_the_first(tmp_path):
    claim = Claim.take(tmp_path, LaunchName("slurm job 7"))
    with pytest.raises(LaunchError, match=f"slurm job 7 \\(process {os.getpid()} on .* is writing"):
        Claim.take(tmp_path, LaunchName("slurm job 8", 2))
    claim.check()  # undisturbed


def test_a_later_attempt_of_the_launch_takes_over_from_one_that_hangs(tmp_path):
    old = Claim.take(tmp_path, LaunchName("slurm job 7", 1))
    new = Claim.take(tmp_path, LaunchName("slurm job 7", 2), patience=0)
    new.check()
    with pytest.raises(Superseded, match=r"attempt 1 of .* is over: attempt 2"):
        old.check()
    with pytest.raises(Superseded, match="starts late"):
        Claim.take(tmp_path, LaunchName("slurm job 7", 1), patience=0)
    old.release()
    assert is_locked(tmp_path)  # by the new one, in a lock file of its own


def test_the_lock_ends_with_its_process(tmp_path):
    code = "import sys; from pathlib import Path; from fra_dist.distributed.environment import LaunchName;"
    code += "from fra_dist.train.run_dir.fence import Claim; Claim.take(Path(sys.argv[1]), LaunchName('x'))"
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=True)
    assert not is_locked(tmp_path)
    assert Claim.take(tmp_path, LaunchName("y")).attempt == 2


def unreadable(folder):
    """A disk that gives an error for the file, other than that it is not there."""
    (folder / "attempt.json").unlink(missing_ok=True)
    (folder / "attempt.json").mkdir()


def test_who_cannot_read_the_number_must_not_write(tmp_path):
    claim = Claim.take(tmp_path, LaunchName("a"))
    unreadable(tmp_path)
    with pytest.raises(OwnerUnreadable, match=r"attempt\.json, which says who may write: Is a directory") as caught:
        claim.check()
    assert caught.value.exit_status == 1, "another attempt may succeed"
    (tmp_path / "attempt.json").rmdir()
    with pytest.raises(OwnerUnreadable, match=r"no longer finds attempt\.json"):
        claim.check()


def test_an_error_of_the_disk_is_not_a_folder_without_attempts(tmp_path):
    assert read_attempt(tmp_path) == {}
    unreadable(tmp_path)
    with pytest.raises(OwnerUnreadable):
        Claim.take(tmp_path, LaunchName("a"))
    assert not (tmp_path / ".lock").exists()


@pytest.mark.parametrize(
    "text",
    [
        "",
        '{"attempt": 3',
        "[3]",
        '{"attempt": 1e999}',
        '{"attempt": ' + "[" * 9999,
        '{"launch": "a"}',
        '{"attempt": null}',
    ],
)
def test_a_damaged_number_is_refused_with_what_to_do(tmp_path, text):
    (tmp_path / "attempt.json").write_text(text)
    with pytest.raises(LaunchError, match=r"attempt\.json is damaged: .* Delete it when no process writes") as caught:
        read_attempt(tmp_path, patience=0)
    assert caught.value.exit_status == 2


def test_a_disk_that_fails_for_a_moment_is_asked_again(tmp_path):
    Claim.take(tmp_path, LaunchName("a")).release()
    number = tmp_path / "attempt.json"
    number.rename(tmp_path / "kept")
    number.symlink_to(number)  # reading it gives ELOOP
    timer = threading.Timer(0.3, lambda: (tmp_path / "kept").replace(number))
    timer.start()
    assert read_attempt(tmp_path, patience=60)["attempt"] == 1
    timer.join()


def test_a_lock_that_cannot_be_looked_at_is_an_error(tmp_path):
    assert not is_locked(tmp_path)
    (tmp_path / "file").touch()
    with pytest.raises(OwnerUnreadable, match="Not a directory"):
        is_locked(tmp_path / "file")


def test_the_number_is_on_the_disk_before_it_is_relied_on(tmp_path, monkeypatch):
    synced = []
    real = os.fsync

    def fsync(handle):
        synced.append((Path(os.readlink(f"/proc/self/fd/{handle}")).name, (tmp_path / "attempt.json").exists()))
        real(handle)

    monkeypatch.setattr(os, "fsync", fsync)
    Claim.take(tmp_path, LaunchName("a")).release()
    (content, before), (name, after) = synced
    assert content.startswith(".attempt.json.partial-")
    assert (before, name, after) == (False, tmp_path.name, True)
    assert sorted(path.name for path in tmp_path.iterdir()) == [".lock", "attempt.json"]
