"""Rows that a disk does not take."""

from pathlib import Path

import pytest

from fra_dist import json_lines
from fra_dist.train.run_dir import row_file
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
