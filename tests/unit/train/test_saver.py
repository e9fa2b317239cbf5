import errno
import os
import threading
from types import SimpleNamespace

import pytest
import torch

from fra_dist.config import CheckpointConfig, load_config
from fra_dist.errors import SaveError
from fra_dist.train.checkpoints import background_writer, writing
from fra_dist.train.checkpoints.background_writer import Saver
from fra_dist.train.checkpoints.reading import find_checkpoint, newest_good
from fra_dist.train.checkpoints.snapshot import Snapshot
from fra_dist.train.checkpoints.writing import Contents, save_checkpoint
from fra_dist.train.run_dir.fence import Superseded


@pytest.fixture(scope="module")
def config():
    return load_config(None, ["model.backbone=tiny"])


class Gate:
    """Holds back whoever writes until it is opened."""

    def __init__(self, monkeypatch):
        self.open = threading.Event()
        self.reached = threading.Event()
        write = writing.write_tensors

        def held(path, tensors):
            self.reached.set()
            assert self.open.wait(30)
            return write(path, tensors)

        monkeypatch.setattr(writing, "write_tensors", held)


@pytest.fixture
def gate(monkeypatch):
    gate = Gate(monkeypatch)
    yield gate
    gate.open.set()


def contents(config, step, value):
    return Contents(step, config, {"weight": value}, {"weight/momentum_buffer": value * 2}, {})


def test_what_is_written_is_the_state_at_the_call_and_not_what_came_after(tmp_path, config, gate):
    keeper = Saver(tmp_path, CheckpointConfig())
    weight = torch.arange(6.0).reshape(2, 3)
    assert keeper.save(contents(config, 1, weight))
    assert gate.reached.wait(10)
    assert keeper.busy
    assert newest_good(tmp_path) == (None, [])  # half a checkpoint is none
    weight.add_(100)  # training continues
    gate.open.set()
    assert keeper.wait(10)
    assert keeper.newest == 1
    (outcome,) = keeper.finished()
    assert outcome.error is None
    assert outcome.path == tmp_path / "step-00000001"
    assert torch.equal(find_checkpoint(outcome.path).model()["weight"], torch.arange(6.0).reshape(2, 3))
    assert keeper.finished() == []


def test_one_at_a_time_and_what_is_due_meanwhile_is_left_out(tmp_path, config, gate, monkeypatch):
    monkeypatch.setattr(background_writer, "BUSY_WAIT", 0.05)
    keeper = Saver(tmp_path, CheckpointConfig())
    value = torch.zeros(2)
    assert keeper.save(contents(config, 1, value))
    assert not keeper.save(contents(config, 2, value))
    monkeypatch.setattr(background_writer, "BUSY_WAIT", 1000)
    assert not keeper.save(contents(config, 3, value))  # waits once only for a disk that hangs
    gate.open.set()
    assert keeper.wait(10)
    assert keeper.save(contents(config, 4, value))
    assert keeper.wait(10)
    assert [outcome.step for outcome in keeper.finished()] == [1, 4]


def test_the_wait_at_the_end_is_bounded(tmp_path, config, gate):
    keeper = Saver(tmp_path, CheckpointConfig(patience_seconds=0.05))
    keeper.save(contents(config, 1, torch.zeros(2)))
    assert not keeper.wait(0.05)
    keeper.close()  # returns
    assert keeper.busy


def test_synchronous(tmp_path, config):
    keeper = Saver(tmp_path, CheckpointConfig(asynchronous=False))
    keeper.save(contents(config, 1, torch.zeros(2)))
    assert not keeper.busy
    assert keeper.newest == 1


def test_retention_follows_a_success_only(tmp_path, config, monkeypatch):
    keeper = Saver(tmp_path, CheckpointConfig(asynchronous=False, keep_last=1))
    for step in (1, 2):
        keeper.save(contents(config, step, torch.zeros(2)))
    assert [outcome.deleted for outcome in keeper.finished()] == [(), ("step-00000001",)]

    def full(*args):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(writing, "write_tensors", full)
    keeper.save(contents(config, 3, torch.zeros(2)))
    (outcome,) = keeper.finished()
    assert isinstance(outcome.error, SaveError)
    assert "No space left on device; earlier ones are untouched" in str(outcome.error)
    assert keeper.newest == 2
    assert [path.name for path in tmp_path.iterdir()] == ["step-00000002"]


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO, errno.ESTALE])
def test_each_way_a_disk_refuses_is_one_line(tmp_path, config, monkeypatch, code):
    def refuse(*args):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(writing.files, "sync_folder", refuse)
    with pytest.raises(SaveError, match=os.strerror(code)) as caught:
        save_checkpoint(tmp_path, contents(config, 1, torch.zeros(2)))
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_too_little_room_is_seen_before_anything_is_written(tmp_path, config, monkeypatch):
    monkeypatch.setattr(writing.shutil, "disk_usage", lambda path: SimpleNamespace(free=50))
    with pytest.raises(SaveError, match=r"it needs 16\.0 MB and 0\.0 MB are free"):
        save_checkpoint(tmp_path, contents(config, 1, torch.zeros(2_000_000)))


def test_a_superseded_attempt_leaves_everything_as_it_is(tmp_path, config):
    def over():
        raise Superseded("attempt 1 is over")

    (tmp_path / ".partial-00000007-1").mkdir()  # the newer attempt is writing this
    keeper = Saver(tmp_path, CheckpointConfig(), over)
    keeper.save(contents(config, 1, torch.zeros(2)))
    assert keeper.wait(10)
    assert isinstance(keeper.finished()[0].error, Superseded)
    assert [path.name for path in tmp_path.iterdir()] == [".partial-00000007-1"]


def test_superseded_while_writing(tmp_path, config):
    asked = []

    def permit():
        asked.append(1)
        if len(asked) > 1:
            raise Superseded("attempt 1 is over")

    with pytest.raises(Superseded):
        save_checkpoint(tmp_path, contents(config, 1, torch.zeros(2)), permit)
    assert list(tmp_path.iterdir()) == []


def test_what_a_killed_process_left_is_swept(tmp_path, config):
    (tmp_path / ".partial-00000001-99").mkdir()
    save_checkpoint(tmp_path, contents(config, 1, torch.zeros(2)))
    assert [path.name for path in tmp_path.iterdir()] == ["step-00000001"]


def test_snapshots_share_their_buffers_while_shapes_stay():
    snapshot = Snapshot()
    first = snapshot.take({"model": {"a": torch.ones(3), "b": torch.ones(2, 2).t()}})["model"]
    second = snapshot.take({"model": {"a": torch.zeros(3), "b": torch.zeros(2, 3), "c": torch.zeros(())}})["model"]
    assert second["a"].data_ptr() == first["a"].data_ptr()
    assert second["a"].tolist() == [0, 0, 0]
    assert second["b"].shape == (2, 3)
    assert second.keys() == {"a", "b", "c"}


def test_a_snapshot_of_the_channels_last_layout_is_contiguous():
    value = torch.randn(2, 3, 4, 5).to(memory_format=torch.channels_last)
    copy = Snapshot().take({"model": {"a": value}})["model"]["a"]
    assert copy.is_contiguous()
    assert torch.equal(copy, value)
