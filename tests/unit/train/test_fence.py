import os
import subprocess
import sys

import pytest

from fra_dist.distributed.environment import LaunchName
from fra_dist.errors import LaunchError
from fra_dist.train.run_dir.fence import Claim, Superseded, is_locked, read_attempt


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
