"""Rows that a disk does not take."""

import os
from pathlib import Path

import pytest
import torch

from fra_dist import json_lines
from fra_dist.config import Config
from fra_dist.train.run_dir import row_file
from fra_dist.train.run_dir.fence import Superseded
from fra_dist.train.run_dir.folder import RunFolder
from fra_dist.train.run_dir.row_file import RowFile


def test_rows_that_were_never_written_are_counted_at_the_end(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = RowFile(tmp_path / "missing" / "rank-00001.jsonl")
    for step in (1, 2):
        rows.append({"step": step})
    rows.finish()
    assert "rank-00001.jsonl could not be written to the end: 2 rows lost" in capsys.readouterr().err
    (tmp_path / "missing").mkdir()
    rows.finish()
    assert (tmp_path / "missing" / "rank-00001.jsonl").read_bytes().count(b"\n") == 2
    assert capsys.readouterr().err == ""


def test_rows_that_memory_did_not_hold_are_counted_when_the_disk_is_back(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(row_file, "_WAITING", 3)
    path = tmp_path / "missing" / "metrics.jsonl"
    rows = RowFile(path)
    for step in range(5):
        rows.append({"step": step})
    rows.finish()
    assert "metrics.jsonl could not be written to the end: 5 rows lost" in capsys.readouterr().err
    path.parent.mkdir()
    rows.flush()
    assert [row["step"] for row in json_lines.read_rows(path)] == [2, 3, 4]
    assert "metrics.jsonl is written again, without 2 rows that memory did not hold" in capsys.readouterr().err
    rows.finish()
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("newer", [False, True])
def test_a_run_folder_writes_rows_that_wait_before_a_checkpoint_and_at_its_end_unless_another_attempt_has_begun(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, newer: bool
) -> None:
    folder = RunFolder(tmp_path / "run")
    folder.open(Config(), torch.device("cpu"))
    write = os.write
    monkeypatch.setattr(json_lines.os, "write", lambda *_: os.close(-1))  # EBADF
    folder.log({"step": 1})
    folder.log({"step": 2})
    monkeypatch.setattr(json_lines.os, "write", write)
    if newer:
        (folder.path / "attempt.json").write_text('{"attempt": 2, "launch": "another"}')
        with pytest.raises(Superseded):
            folder.flush()
        folder.close()
        assert json_lines.read_rows(folder.path / "metrics.jsonl") == []
        return
    folder.flush()
    assert json_lines.read_rows(folder.path / "metrics.jsonl") == [{"step": 1}, {"step": 2}]
    folder.close()
