import json
import os
import signal
import subprocess
import sys
import time

import pytest

from fra_dist.launch.outcome import attempt_outcome

WAITS = (
    "import signal, sys, time; signal.signal(signal.{}, lambda *_: sys.exit(75));"
    "print('up', flush=True); time.sleep(30)"
)


def start(*words, env=None, **more):
    command = [sys.executable, "-m", "fra_dist.launch.task", *words]
    return subprocess.Popen(command, env={**os.environ, **(env or {})}, stdout=subprocess.PIPE, text=True, **more)


def record(folder, rank=0):
    return json.loads((folder / f"rank-{rank}.json").read_text())


@pytest.mark.parametrize(("code", "shown"), [(0, 0), (75, 0), (2, 2), (7, 7)])
def test_status_is_passed_on_and_recorded(tmp_path, code, shown):
    task = start("--folder", str(tmp_path), "--", sys.executable, "-c", f"print('hello'); raise SystemExit({code})")
    out, _ = task.communicate(timeout=120)
    assert (task.returncode, out, record(tmp_path)["code"]) == (shown, "hello\n", code)


def test_rank_and_killed_trainer(tmp_path):
    code = "import os; os.kill(os.getpid(), 9)"
    task = start(
        "--folder",
        str(tmp_path),
        "--",
        sys.executable,
        "-c",
        code,
        env={"RANK": "3", "WORLD_SIZE": "4", "LOCAL_RANK": "0"},
    )
    assert task.wait(120) == 137
    assert (record(tmp_path, 3)["code"], record(tmp_path, 3)["asked"]) == (-9, False)


@pytest.mark.parametrize("name", ["SIGTERM", "SIGUSR2"])
def test_signals_reach_the_trainer(tmp_path, name):
    task = start("--folder", str(tmp_path), "--", sys.executable, "-c", WAITS.format(name))
    assert task.stdout.readline() == "up\n"
    task.send_signal(getattr(signal, name))
    assert task.wait(120) == 0
    assert record(tmp_path)["code"] == 75


def test_asked_to_stop_before_the_trainer_listens_is_a_stop(tmp_path):
    task = start(
        "--folder", str(tmp_path), "--", sys.executable, "-c", "print('up', flush=True); import time; time.sleep(30)"
    )
    assert task.stdout.readline() == "up\n"
    task.terminate()
    assert task.wait(120) == 0
    assert record(tmp_path)["code"] == 75


@pytest.mark.parametrize("how", ["lifeline", "kill"])
def test_no_trainer_outlives_its_task(tmp_path, how):
    code = f"import os, time; open({str(tmp_path / 'pid')!r}, 'w').write(str(os.getpid()));"
    code += "print('up', flush=True); time.sleep(30)"
    task = start("--folder", str(tmp_path), "--lifeline", "--", sys.executable, "-c", code, stdin=subprocess.PIPE)
    assert task.stdout.readline() == "up\n"
    task.stdin.close() if how == "lifeline" else task.kill()
    task.wait(120)
    pid = int((tmp_path / "pid").read_text())
    for _ in range(100):
        if not _alive(pid):
            return
        time.sleep(0.05)
    raise AssertionError("the trainer is still alive")


def _alive(pid):
    try:
        return open(f"/proc/{pid}/stat").read().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_the_record_keeps_the_last_words(tmp_path):
    start("--folder", str(tmp_path), "--", sys.executable, "-c", "import sys; print('no room'); sys.exit(7)").wait(120)
    (tmp_path / "rank-0.log").write_text("the next attempt\n")
    assert attempt_outcome(tmp_path, 1).cause.endswith("exited with status 7: no room")
