"""The hook with a run of nothing but what it touches; real runs are in tests/unit/cli."""

import errno
import os
import threading
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from fra_dist import files
from fra_dist.config import load_config
from fra_dist.errors import SaveError
from fra_dist.json_lines import read_rows
from fra_dist.train.checkpoints import background_writer, writing
from fra_dist.train.checkpoints.background_writer import Saver
from fra_dist.train.checkpoints.reading import find_checkpoint, list_checkpoints
from fra_dist.train.hooks.saving import Checkpoints
from fra_dist.train.run_dir.folder import RunFolder

CPU = torch.device("cpu")


class Engine:
    def __init__(self):
        self.weight = torch.zeros(3)

    def model_state(self):
        return {"weight": self.weight}

    def optimizer_state(self):
        return {}


class TinyRun:
    """Steps that add 1 to a weight, with the hook after each."""

    def __init__(self, folder, *overrides):
        self.config = load_config(None, ["model.backbone=tiny", "checkpoint.every_steps=2", *overrides])
        self.ctx = SimpleNamespace(is_main=True, device=CPU)
        self.folder = RunFolder(folder)
        self.folder.open(self.config, CPU)
        self.engine, self.memory, self.completed, self.save_due = Engine(), {}, 0, False
        self.saver = Saver(self.folder.checkpoints, self.config.checkpoint, self.folder.check)
        self.hook = Checkpoints()
        self.hook.begin(self)

    def steps(self, count):
        for _ in range(count):
            self.engine.weight += 1
            self.completed += 1
            self.folder.log({"step": self.completed, "loss/total": 1.0 / self.completed})
            self.hook.after_step(self, None, {})

    def steps_with_saves(self, count):
        for _ in range(count):
            self.steps(1)
            self.saver.wait(10)

    def saved(self):
        return [int(path.name[5:]) for path in list_checkpoints(self.folder.checkpoints)]

    def told(self, event):
        return [row for row in read_rows(self.folder.path / "history.jsonl") if row["event"] == event]


@pytest.fixture
def full(monkeypatch):
    """Writing fails while it is set."""
    state = threading.Event()
    write = writing.write_tensors

    def refuse(path, tensors):
        if state.is_set():
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(path, tensors)

    monkeypatch.setattr(writing, "write_tensors", refuse)
    return state


def test_every_n_steps_and_at_the_end(tmp_path):
    run = TinyRun(tmp_path / "run", "checkpoint.keep_last=9")
    run.steps_with_saves(5)
    run.hook.end(run)
    assert run.saved() == [2, 4, 5]
    assert find_checkpoint(run.folder.path).model()["weight"].tolist() == [5, 5, 5]
    rows = run.told("checkpoint")
    assert [row["step"] for row in rows] == [2, 4, 5]
    assert all(row["stall_seconds"] >= 0 and row["write_seconds"] > 0 for row in rows)
    assert find_checkpoint(run.folder.path).metrics["loss/total"] == pytest.approx(0.2)


def test_the_last_step_is_not_written_twice(tmp_path):
    run = TinyRun(tmp_path / "run")
    run.steps_with_saves(4)
    run.hook.end(run)
    assert [row["step"] for row in run.told("checkpoint")] == [2, 4]


def test_by_the_clock(tmp_path):
    run = TinyRun(tmp_path / "run", "checkpoint.every_steps=1000", "checkpoint.every_minutes=1e-9")
    run.steps_with_saves(1)
    assert run.save_due  # ranks come to one mind about it at the next boundary
    run.steps_with_saves(1)
    assert run.saved() == [2]


def test_a_full_disk_is_told_and_training_goes_on(tmp_path, full, capsys):
    run = TinyRun(tmp_path / "run")
    run.steps_with_saves(2)
    full.set()
    run.steps_with_saves(3)
    assert run.saved() == [2]
    assert "No space left on device; earlier ones are untouched; training continues" in capsys.readouterr().err
    assert "step-00000004" in run.told("warning")[0]["text"]
    full.clear()
    run.steps_with_saves(1)
    run.hook.end(run)
    assert run.saved() == [2, 6]


def test_a_full_disk_at_the_end_is_an_error_and_the_last_good_one_stays(tmp_path, full):
    run = TinyRun(tmp_path / "run")
    run.steps_with_saves(2)
    full.set()
    run.steps_with_saves(1)
    with pytest.raises(
        SaveError, match=r"step-00000003: No space left on device.*start the same command again"
    ) as caught:
        run.hook.end(run)
    assert caught.value.exit_status == 1
    assert "\n" not in str(caught.value)
    assert find_checkpoint(run.folder.path).step == 2


def test_the_end_tries_again_what_failed_at_the_last_step(tmp_path, full):
    run = TinyRun(tmp_path / "run")
    full.set()
    run.steps_with_saves(2)
    full.clear()
    run.hook.end(run)
    assert run.saved() == [2]


def test_a_disk_that_hangs_does_not_hang_training_nor_the_end(tmp_path, monkeypatch, capsys):
    answer = threading.Event()
    write = writing.write_tensors

    def hang(path, tensors):
        answer.wait(60)
        return write(path, tensors)

    monkeypatch.setattr(writing, "write_tensors", hang)
    monkeypatch.setattr(background_writer, "BUSY_WAIT", 0.05)
    run = TinyRun(tmp_path / "run", "checkpoint.patience_seconds=0.05")
    run.steps(8)
    assert run.saved() == []
    assert len(run.told("warning")) == 1
    assert "left out" in capsys.readouterr().err
    with pytest.raises(SaveError, match=r"has not taken the last checkpoint in 0 s \(checkpoint.patience_seconds\)"):
        run.hook.end(run)
    answer.set()
    assert run.saver.wait(10)
    assert find_checkpoint(run.folder.path).step == 2  # what was copied at step 2, whole
    assert find_checkpoint(run.folder.path).model()["weight"].tolist() == [2, 2, 2]


def test_a_defect_in_the_thread_is_not_swallowed(tmp_path, monkeypatch):
    def broken(path, tensors):
        raise KeyError("a defect")

    monkeypatch.setattr(writing, "write_tensors", broken)
    run = TinyRun(tmp_path / "run")
    with pytest.raises(KeyError, match="a defect"):
        run.steps_with_saves(4)


@pytest.fixture
def disk(monkeypatch):
    """What is flushed, with its size then, and what is renamed, in order; by names below the run folder."""
    done, fsync, rename = [], os.fsync, Path.rename

    def flushed(handle):
        path = Path(os.readlink(f"/proc/self/fd/{handle}"))
        if path.is_file():
            done.append((path.name, path.stat().st_size))
        else:
            done.append((path.name, None))
        fsync(handle)

    def renamed(path, target):
        done.append(("rename", Path(target).name))
        return rename(path, target)

    monkeypatch.setattr(os, "fsync", flushed)
    monkeypatch.setattr(Path, "rename", renamed)
    return done


def test_rows_are_on_the_disk_before_the_checkpoint_that_follows_them(tmp_path, disk):
    run = TinyRun(tmp_path / "run", "checkpoint.keep_last=9")
    folder = run.folder.path
    run.folder.note("start")
    (folder / "samples").mkdir()
    other = folder / "samples" / "rank-00001.jsonl"  # of another rank
    other.write_text('{"step": 1}\n')
    for step in (2, 4):
        disk.clear()
        run.steps(2)
        sizes = {path.name: path.stat().st_size for path in (folder / "metrics.jsonl", other)}
        run.saver.wait(10)
        before = disk[: disk.index(("rename", f"step-{step:08d}"))]
        assert {("metrics.jsonl", sizes["metrics.jsonl"]), (other.name, sizes[other.name])} <= set(before)
        assert {"history.jsonl", "run", "samples"} <= {name for name, _ in before}
    assert run.saved() == [2, 4]


def test_rows_that_cannot_be_flushed_are_told_once_and_cost_no_checkpoint(tmp_path, monkeypatch, capsys):
    run = TinyRun(tmp_path / "run", "checkpoint.keep_last=9")
    fsync, bad = os.fsync, threading.Event()

    def fail(handle):
        if bad.is_set() and os.readlink(f"/proc/self/fd/{handle}").endswith("metrics.jsonl"):
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        fsync(handle)

    monkeypatch.setattr(os, "fsync", fail)
    monkeypatch.setattr(files, "PAUSES", (0.0,))
    bad.set()
    run.steps_with_saves(5)
    bad.clear()
    run.steps_with_saves(2)
    bad.set()
    run.steps_with_saves(2)
    assert run.saved() == [2, 4, 6, 8]
    said = [row["text"] for row in run.told("warning")]
    assert [text.partition(":")[0] for text in said] == [
        f"the rows before step {step} might not outlive a power cut" for step in (2, 8)
    ]
    assert all(text.count("cannot flush") == text.count("Input/output error") == 1 for text in said)
    assert capsys.readouterr().err.count("might not outlive") == 2


def test_a_metric_that_the_first_row_lacks_is_told_once(tmp_path, capsys):
    extra = "loss.extra={mine.losses:together: 0.1}"
    run = TinyRun(tmp_path / "run", "checkpoint.keep_best=loss/totl", extra)
    run.steps_with_saves(4)
    (said,) = run.told("warning")
    assert "checkpoint.keep_best=loss/totl: the row of step 1 has no metric of that name" in said["text"]
    assert "did you mean loss/total?" in said["text"]
    assert capsys.readouterr().err.count("loss/totl") == 1
    right = TinyRun(tmp_path / "right", "checkpoint.keep_best=loss/total", extra)
    right.steps_with_saves(4)
    assert right.told("warning") == []
