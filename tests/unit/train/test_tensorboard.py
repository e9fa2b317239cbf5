"""Event files as TensorBoard reads them, and a disk that is full for a while."""

import errno

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from fra_dist.train.sinks.event_records import crc32c, framed
from fra_dist.train.sinks.tensorboard import TensorBoard


def read(folder):
    found = EventAccumulator(str(folder))
    found.Reload()
    return {name: [(event.step, event.value) for event in found.Scalars(name)] for name in found.Tags()["scalars"]}


def test_rows_can_be_read_while_the_run_goes_on(tmp_path):
    board = TensorBoard(tmp_path / "board", 0)
    board.write(10, {"loss/total": 2.5, "views/overlap": None})
    board.write(20, {"loss/total": 1.5})
    assert read(tmp_path / "board") == {"loss/total": [(10, 2.5), (20, 1.5)]}


def test_the_checksum_is_castagnolis():
    assert crc32c(b"123456789") == 0xE3069283  # the check value that catalogues of CRCs give
    assert crc32c(b"") == 0


def test_frames_are_those_of_tensorboard(tmp_path):
    from tensorboard.summary.writer.record_writer import RecordWriter

    with (tmp_path / "theirs").open("wb") as stream:
        writer = RecordWriter(stream)
        for data in (b"", b"one", bytes(range(256))):
            writer.write(data)
        writer.flush()
    assert (tmp_path / "theirs").read_bytes() == framed(b"") + framed(b"one") + framed(bytes(range(256)))


def test_a_later_attempt_hides_what_it_does_again(tmp_path):
    board = TensorBoard(tmp_path, 0)
    for step in (1, 2, 3):
        board.write(step, {"a": float(step)})
    board.close()
    again = TensorBoard(tmp_path, 2)
    again.write(3, {"a": 30.0})
    assert read(tmp_path) == {"a": [(1, 1.0), (2, 2.0), (3, 30.0)]}


def test_a_run_that_goes_back_hides_what_it_does_again(tmp_path):
    board = TensorBoard(tmp_path, 0)
    for step, value in ((1, 1.0), (2, 2.0), (3, 3.0), (2, 20.0), (3, 30.0)):
        board.write(step, {"a": value})
    assert read(tmp_path) == {"a": [(1, 1.0), (2, 20.0), (3, 30.0)]}


def test_a_full_disk_costs_rows_and_one_warning(tmp_path, monkeypatch, capsys):
    board = TensorBoard(tmp_path, 0)
    board.write(1, {"a": 1.0})
    monkeypatch.setattr("fra_dist.train.sinks.tensorboard._RETRY", 0.0)
    add = TensorBoard._add

    def full(self, **facts):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(TensorBoard, "_add", full)
    for step in (2, 3):
        board.write(step, {"a": float(step)})
    said = capsys.readouterr().err
    assert said.count("No space left on device; TensorBoard misses rows") == 1
    monkeypatch.setattr(TensorBoard, "_add", add)
    board.write(4, {"a": 4.0})
    assert read(tmp_path) == {"a": [(1, 1.0), (4, 4.0)]}


def test_a_folder_that_cannot_be_made(tmp_path, capsys):
    (tmp_path / "board").write_text("a file")
    TensorBoard(tmp_path / "board", 0).write(1, {"a": 1.0})
    assert "cannot write" in capsys.readouterr().err


@pytest.mark.parametrize("value", [0.1, 1e30])
def test_values_are_single_precision(tmp_path, value):
    TensorBoard(tmp_path, 0).write(1, {"a": value})
    assert read(tmp_path)["a"][0][1] == pytest.approx(value)
