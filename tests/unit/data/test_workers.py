import functools
import operator
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from fra_dist.data.making.workers import in_order
from fra_dist.errors import DataError


@pytest.mark.parametrize("workers", [1, 2])
def test_results_come_in_the_order_of_the_calls(workers: int) -> None:
    calls = [functools.partial(operator.mul, n, n) for n in range(50)]
    assert list(in_order(iter(calls), workers)) == [n * n for n in range(50)]


@pytest.mark.parametrize("workers", [1, 2])
def test_errors_of_a_call_reach_the_caller(workers: int) -> None:
    with pytest.raises(ZeroDivisionError):
        list(in_order([functools.partial(operator.floordiv, 1, 0)], workers))


def test_a_dead_process_is_an_error_of_one_line() -> None:
    with pytest.raises(DataError, match="worker process died"):
        list(in_order([functools.partial(os._exit, 9)] * 3, 2))


def test_workers_do_not_outlive_a_killed_parent(tmp_path: Path) -> None:
    code = (
        "import os, functools, time\n"
        "from fra_dist.data.making.workers import in_order\n"
        "if __name__ == '__main__':\n"
        "    results = in_order((functools.partial(os.getpid) for _ in range(10**6)), 2)\n"
        "    print(next(results), flush=True)\n"
        "    time.sleep(60)\n"
    )
    script = tmp_path / "parent.py"
    script.write_text(code)
    parent = subprocess.Popen([sys.executable, script], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    worker = int(parent.stdout.readline())
    os.kill(parent.pid, signal.SIGKILL)
    parent.wait()
    deadline = time.monotonic() + 30
    while _alive(worker) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not _alive(worker)
    parent.stdout.close()


def _alive(pid: int) -> bool:
    """Running, and no zombie that waits for its parent."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
