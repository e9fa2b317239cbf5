"""A disk that errs while a run is resumed loses nothing, and neither does a signal or an output that nobody takes."""

import errno
import json
import os
import signal
import subprocess
import sys

import pytest
import torch

from fra_dist import files
from fra_dist.config import load_config
from fra_dist.errors import AccessError, CheckpointError, ConfigError, DiskError
from fra_dist.exit_status import FAILED, HUNG, INTERRUPTED, STOPPED
from fra_dist.json_lines import read_rows
from fra_dist.train.checkpoints.reading import find_checkpoint, list_checkpoints
from fra_dist.train.checkpoints.writing import Contents, save_checkpoint
from fra_dist.train.resume import NEWEST, choose_checkpoint
from fra_dist.train.run_dir.folder import RunFolder
from fra_dist.train.signals import STOP_SIGNALS

CPU = torch.device("cpu")
TINY = ("data.image_size=32", "model.backbone=tiny", "model.width=16", "model.hidden=32")
DAMAGE = [b"\xff\n", b'{"loss/total": 1}\n', b"7\n", b"null\n", b'{"step": null}\n', b"[" * 9000 + b"\n", b'{"step": 4']


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch):
    monkeypatch.setattr(files, "PAUSES", (0.0, 0.0))


@pytest.fixture(scope="module")
def config():
    return load_config(None, TINY)


@pytest.fixture
def run(config, tmp_path):
    """A run folder with checkpoints of steps 5 and 10, and rows up to 12."""
    folder = RunFolder(tmp_path / "run")
    folder.open(config, CPU)
    for step in (5, 10):
        save_checkpoint(folder.checkpoints, Contents(step, config, {}, {}, {}))
    for step in range(1, 13):
        folder.log({"step": step, "loss/total": float(step)})
    folder.close()
    return folder.path


def resume(path, config, force=False):
    folder = RunFolder(path)
    folder.open(config, CPU, force)
    try:
        return choose_checkpoint(folder, config, NEWEST, force), folder.losses(3)
    finally:
        folder.close()


def content(run):
    return sorted(str(path.relative_to(run)) for path in run.rglob("*") if "checkpoints" in path.parts)


@pytest.mark.parametrize("number", [errno.EIO, errno.ESTALE])
@pytest.mark.parametrize("name", ["checkpoints", "step-00000010", "manifest.json", "model.safetensors", "state.json"])
@pytest.mark.parametrize("times", [1, -1])
def test_an_error_while_resuming_is_no_start_at_step_0(run, config, monkeypatch, number, name, times):
    calls = {call: getattr(os, call) for call in ("stat", "listdir", "open")}
    left = [times]

    def errs(call):
        def asked(path, *args, **kwargs):
            if str(path).endswith(name) and left[0]:
                left[0] -= 1
                raise OSError(number, os.strerror(number), str(path))
            return calls[call](path, *args, **kwargs)

        return asked

    before = content(run)
    for call in calls:
        monkeypatch.setattr(files.os, call, errs(call))
    if times == 1:
        assert resume(run, config)[0].step == 10
    else:
        with pytest.raises(DiskError) as raised:
            resume(run, config)
        assert raised.value.exit_status == FAILED
        assert "\n" not in str(raised.value)
    monkeypatch.undo()
    assert content(run) == before
    assert read_rows(run / "metrics.jsonl")[-1]["step"] == (10 if times == 1 else 12)


def test_checkpoints_that_this_user_may_not_read_are_a_refusal(run, config, monkeypatch):
    listdir = os.listdir

    def refused(path):
        if str(path).endswith("checkpoints"):
            raise PermissionError(errno.EACCES, "Permission denied")
        return listdir(path)

    monkeypatch.setattr(files.os, "listdir", refused)
    with pytest.raises(AccessError, match="Permission denied"):
        resume(run, config)
    with pytest.raises(AccessError):
        list_checkpoints(run / "checkpoints")


def test_the_configuration_in_the_checkpoint_is_the_one_to_compare_with(run, config):
    other = load_config(None, [*TINY, "seed=9"])
    (run / "config.yaml").unlink()
    with pytest.raises(ConfigError, match="seed"):
        resume(run, other)
    assert not (run / "config.yaml").exists()
    (run / "config.yaml").write_text("seed: 9\n")
    with pytest.raises(ConfigError, match="seed"):
        resume(run, other)
    assert resume(run, other, force=True)[0].step == 10


@pytest.mark.parametrize("damage", DAMAGE)
@pytest.mark.parametrize("where", ["end", "middle", "before the cut"])
@pytest.mark.parametrize("name", ["metrics.jsonl", "quarantine.jsonl", "history.jsonl"])
def test_damaged_rows_end_nothing_and_are_told(run, config, damage, where, name):
    path = run / name
    lines = path.read_bytes().splitlines(keepends=True) if path.exists() else []
    place = {"end": len(lines), "middle": len(lines) // 2, "before the cut": max(0, len(lines) - 3)}[where]
    whole = damage if where == "end" or damage.endswith(b"\n") else damage + b"\n"
    path.write_bytes(b"".join([*lines[:place], whole, *lines[place:]]))
    found, losses = resume(run, config)
    assert found.step == 10
    assert losses == [8.0, 9.0, 10.0]
    if name != "history.jsonl":
        assert any("damaged line" in row.get("text", "") for row in read_rows(run / "history.jsonl"))


def test_names_with_any_characters_outlive_two_resumptions(run, config):
    names = ["a\u2028b", "c\u0085d", "caf\udce9", "line\nend", "\x00"]
    rows = [{"step": step, "id": step, "shard": "s", "key": key, "reason": "r"} for step, key in enumerate(names, 1)]
    (run / "quarantine.jsonl").write_text("".join(json.dumps(row) + "\n" for row in [*rows, {**rows[0], "step": 12}]))
    for _ in range(2):
        assert resume(run, config)[0].step == 10
    assert read_rows(run / "quarantine.jsonl") == rows


def test_a_pipe_in_the_place_of_a_file_holds_up_nothing(run, config):
    (run / "checkpoints/step-00000010/state.json").unlink()
    os.mkfifo(run / "checkpoints/step-00000010/state.json")
    assert resume(run, config)[0].step == 5
    with pytest.raises(CheckpointError):
        find_checkpoint(run / "checkpoints/step-00000010")


def test_what_killed_writers_left_goes_with_the_next_start(run, config):
    (run / ".config.yaml.partial-4711").write_text("half")
    resume(run, config)
    assert not list(run.glob(".config*"))


def python(text, **more):
    heeded = "import signal; signal.signal(signal.SIGHUP, signal.SIG_DFL)\n"  # also when the tests run under nohup
    return subprocess.run([sys.executable, "-c", heeded + text], capture_output=True, text=True, timeout=120, **more)


@pytest.mark.parametrize("number", STOP_SIGNALS)
def test_a_signal_before_the_first_step_is_a_stop(number):
    ended = python(
        "import os, time; from fra_dist.train.signals import EARLY\n"
        f"EARLY.begin(); os.kill(os.getpid(), {int(number)}); time.sleep(60)"
    )
    assert ended.returncode == (INTERRUPTED if number == signal.SIGINT else STOPPED)
    assert "nothing is lost" in ended.stderr
    assert "Traceback" not in ended.stderr


@pytest.mark.parametrize("number", STOP_SIGNALS)
def test_a_signal_between_steps_is_a_flag(number):
    ended = python(
        "import os; from fra_dist.train.signals import EARLY, StopFlag\n"
        f"EARLY.begin()\nwith StopFlag() as stop:\n    os.kill(os.getpid(), {int(number)})\n"
        "    print(stop.requested.name)"
    )
    assert (ended.returncode, ended.stdout.strip()) == (0, number.name)


def test_nohup_stays():
    ended = python(
        "import os, signal; from fra_dist.train.signals import StopFlag\nsignal.signal(signal.SIGHUP, signal.SIG_IGN)\n"
        "with StopFlag() as stop:\n    os.kill(os.getpid(), signal.SIGHUP)\n    print(stop.requested)"
    )
    assert ended.stdout.strip() == "None"


@pytest.mark.parametrize("target", ["a closed pipe", "a full disk", "nothing"])
def test_output_that_nobody_takes_ends_nothing(tmp_path, target):
    text = (
        "import sys; from fra_dist.safe_output import protect\nprotect()\n"
        "for n in range(2000): print('x' * 100, flush=n % 2 == 0); print('y' * 100, file=sys.stderr)\n"
        f"sys.stdout.buffer.write(b'z'); open({str(tmp_path / 'done')!r}, 'w').close(); sys.exit(7)"
    )
    reading, writing = os.pipe()
    os.close(reading)
    handle = {"a closed pipe": writing, "a full disk": os.open("/dev/full", os.O_WRONLY), "nothing": -1}[target]
    before = (lambda: (os.close(1), os.close(2))) if handle < 0 else None
    out = {} if handle < 0 else {"stdout": handle, "stderr": handle}
    ended = subprocess.run([sys.executable, "-c", text], timeout=120, preexec_fn=before, **out)
    assert ended.returncode == 7
    assert (tmp_path / "done").exists()


def test_a_part_of_the_start_that_hangs_is_named_and_ended():
    ended = python(
        "import time; from fra_dist.train.liveness.bounded import StartWatch\n"
        "with StartWatch(0.5) as watch:\n    watch.part('reading the manifest'); time.sleep(60)"
    )
    assert ended.returncode == HUNG
    assert ended.stderr.splitlines()[-1].startswith("watchdog: reading the manifest has taken more than")


@pytest.mark.parametrize("trouble", ["full", "gone"])
def test_a_watchdog_ends_its_rank_whatever_the_disk_says(tmp_path, trouble):
    full = (
        "def refuse(*_): raise OSError(errno.ENOSPC, 'No space left on device')\nos.write = os.pwrite = refuse\n"
        if trouble == "full"
        else ""
    )
    ended = python(
        "import errno, os, signal, sys; from pathlib import Path; from types import SimpleNamespace\n"
        "from fra_dist.config import load_config; from fra_dist.train.liveness.phases import Phases\n"
        f"from fra_dist.train.liveness.watchdog import Watchdog\n{full}"
        "config = load_config(None, ['train.watchdog_seconds=0.5']); phases = Phases(); phases.steps = 5\n"
        f"folder = Path({str(tmp_path if trouble == 'full' else tmp_path / 'none' / 'below')!r})\n"
        "with Watchdog(config, SimpleNamespace(rank=0, world=2), phases, ('n1', 'n1'), folder, 1):\n"
        "    signal.pause()"
    )
    assert ended.returncode == HUNG
