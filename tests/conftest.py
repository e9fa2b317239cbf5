"""What several tests need: small shards of synthetic faces, and the command line in a process of its own."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import settings

# Without a deadline, since a loaded machine is no failure. `gate` tries the same examples in every run, so that a gate
# does not fail for what somebody else wrote; `search` tries new ones and prints how to repeat a failure.
settings.register_profile("search", deadline=None, derandomize=False, print_blob=True)
settings.register_profile("gate", deadline=None, derandomize=True)
settings.load_profile("gate" if os.environ.get("CI") else "search")  # --hypothesis-profile overrides it
os.environ.setdefault("OMP_NUM_THREADS", "1")
# a shell's background job ignores Ctrl-C and Ctrl-\\, and so would every process that a test starts
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
if signal.getsignal(signal.SIGQUIT) is signal.SIG_IGN:
    signal.signal(signal.SIGQUIT, signal.SIG_DFL)


@pytest.fixture(scope="session")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three shards with 48 labelled synthetic faces of 48 px."""
    from fra_dist.data.making.shard_making import ShardOptions, make_shards

    folder = tmp_path_factory.mktemp("shards") / "faces"
    make_shards("synthetic:48@48", folder, ShardOptions(shard_samples=16, workers=1))
    return folder


@pytest.fixture
def fra_dist(tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run `fra-dist WORDS` in a process of its own, in an empty folder."""

    def run(*words: str | Path, timeout: float = 120, **env: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "fra_dist.cli.main", *map(str, words)]
        return subprocess.run(
            command, cwd=tmp_path, env={**os.environ, **env}, capture_output=True, text=True, timeout=timeout
        )

    return run
