import os
import signal
import subprocess
import sys
import time

import pytest

from fra_dist.launch.outcome import attempt_outcome
from fra_dist.launch.pulse_watch import Silence

BEATS = """
import os, sys, time
from fra_dist.train.liveness.pulse import Pulse
pulse = Pulse(lambda: 4.0)
pulse.start()
print("up", flush=True)
{}
"""


@pytest.fixture
def pipe():
    ends = os.pipe()
    yield ends
    for end in ends:
        os.close(end)


def test_silence_counts_only_after_a_word(pipe, monkeypatch):
    now = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    silence = Silence(pipe[0])

    def after(ticks):
        answers = []
        for _ in range(ticks):
            now[0] += 0.5
            answers.append(silence.too_long())
        return answers[-1]

    assert not after(1000)
    os.write(pipe[1], b"3.0\n")
    assert not after(6)
    assert after(2)
    os.write(pipe[1], b"2.0\n4.0\n")
    assert not after(8)
    now[0] += 3600  # suspended as a whole
    assert not after(1)
    os.write(pipe[1], b"0.0\n")
    assert not after(1000)


@pytest.mark.parametrize(
    ("does", "why"),
    [
        ("sum(range(10**12))", "a thread kept the interpreter to itself"),
        ("import signal; os.kill(os.getpid(), signal.SIGSTOP)", "its process was stopped"),
    ],
)
def test_task_ends_a_trainer_that_does_not_run(tmp_path, does, why):
    command = [sys.executable, "-m", "fra_dist.launch.task", "--folder", str(tmp_path), "--"]
    task = subprocess.Popen([*command, sys.executable, "-c", BEATS.format(does)], stdout=subprocess.PIPE, text=True)
    assert task.communicate(timeout=120)[0].startswith("up\n")
    assert task.returncode == 128 + signal.SIGKILL
    outcome = attempt_outcome(tmp_path, 1)
    assert outcome.kind == "failed"
    assert outcome.cause.startswith(f"rank 0 on {os.uname().nodename} gave no sign of life for ")
    assert why in outcome.cause
    assert ('File "<string>"' in (tmp_path / "rank-0.log").read_text()) == ("interpreter" in why)


def test_task_leaves_a_trainer_that_beats(tmp_path):
    command = [sys.executable, "-m", "fra_dist.launch.task", "--folder", str(tmp_path), "--"]
    code = BEATS.format("time.sleep(6); pulse.stop(); time.sleep(5)")
    assert subprocess.run([*command, sys.executable, "-c", code], timeout=120).returncode == 0
