"""Ctrl-C once, twice and three times, in processes of their own."""

import signal
import subprocess
import sys
import time

import pytest

BUSY = (
    "import time, sys; from fra_dist.train.signals import StopFlag\n"
    "with StopFlag('the checkpoint in RUN') as stop:\n"
    "    print('ready', flush=True)\n"
    "    end = time.monotonic() + 60\n"
    "    while time.monotonic() < end and sys.stdin.readline() != 'saved\\n': pass\n"
    "    print(stop.requested.name)\n"
)


@pytest.fixture
def busy():
    process = subprocess.Popen(
        [sys.executable, "-c", BUSY], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "ready\n"
    yield process
    process.kill()
    process.communicate()


def interrupt(process):
    """Press Ctrl-C and return the next line that the process says."""
    process.send_signal(signal.SIGINT)
    line = "\n"
    while line == "\n":
        line = process.stderr.readline()
    return line


def test_the_first_is_answered_and_the_second_loses_nothing(busy):
    assert interrupt(busy).startswith("fra-dist: Ctrl-C: this step is finished, then the checkpoint in RUN is saved")
    assert "still saving the checkpoint in RUN" in interrupt(busy)
    out, err = busy.communicate("saved\n", timeout=60)
    assert (busy.returncode, out) == (0, "SIGINT\n")
    assert "Traceback" not in err


def test_the_third_kills(busy):
    interrupt(busy)
    interrupt(busy)
    assert "without saving" in interrupt(busy)
    assert busy.wait(60) == -signal.SIGINT


def test_other_signals_do_not_count_as_ctrl_c(busy):
    busy.send_signal(signal.SIGTERM)
    assert "SIGTERM: this step is finished" in busy.stderr.readline() + busy.stderr.readline()
    for _ in range(2):
        assert "still saving" in interrupt(busy)
    assert busy.poll() is None


def test_ctrl_c_while_modules_are_imported(tmp_path):
    (tmp_path / "slow_module.py").write_text("import time\nprint('importing', flush=True)\ntime.sleep(60)\n")
    code = "import fra_dist.cli, sys; sys.path.insert(0, '.'); import slow_module"
    process = subprocess.Popen(
        [sys.executable, "-c", code], cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "importing\n"
    time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert err.strip() == "fra-dist: stopped"
    assert process.returncode in (-signal.SIGINT, 130)
