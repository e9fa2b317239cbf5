"""`benchmarks/convolution.py` runs, and keeps what it prints."""

import json
from pathlib import Path

import convolution
import pytest
import torch


def test_rates_are_printed_and_kept(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    threads = torch.get_num_threads()
    assert convolution.main(["--quick", "--rounds", "1", "--out", str(tmp_path)]) == 0
    rows = [json.loads(line) for line in (tmp_path / "convolution.jsonl").read_text().splitlines()]
    assert len(rows) == len(convolution.QUICK)
    assert all(row["forward"] > 0 and row["patches"] > 0 and row["versions"]["torch"] for row in rows)
    assert "2 × 64→128 7×7 k1 s2" in capsys.readouterr().out
    assert torch.get_num_threads() == threads
