"""Rows that a disk does not take."""

from pathlib import Path

import pytest

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
