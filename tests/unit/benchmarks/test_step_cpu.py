"""`benchmarks/step_cpu.py` from end to end, at the size of a test."""

import json
from pathlib import Path

import pytest
import step_cpu


def test_everybody_is_checked_and_timed(tmp_path: Path, checkout: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = [
        "--quick",
        "--rounds",
        "1",
        "--out",
        str(tmp_path / "rows"),
        "--dtypes",
        "float32",
        "--profile",
        "--convolutions",
    ]
    words += ["--published", str(checkout), "--published-step", f"{checkout / 'adapter.py'}:make_step"]
    assert step_cpu.main(words) == 0
    rows = [json.loads(line) for line in (tmp_path / "rows" / "step_cpu.jsonl").read_text().splitlines()]
    assert [row["way"] for row in rows] == [
        *("plain NCHW", "plain channels-last", "published"),
        *("ours, PyTorch's", "ours, former rule", "ours"),
    ]
    assert all(row["ms"] > 0 and row["versions"]["torch"] and row["load"] >= 0 for row in rows)
    assert rows[-1]["over_ours"] == rows[-1]["cpu_over_ours"] == 1
    shown = capsys.readouterr().out
    assert "first losses: plain NCHW" in shown
    assert "aten::convolution_backward" in shown


def test_nothing_is_timed_when_losses_differ(tmp_path: Path, checkout: Path) -> None:
    (checkout / "published_recipe.py").write_text("SCALE = 1.01\n")
    words = ["--quick", "--published", str(checkout), "--published-step", f"{checkout / 'adapter.py'}:make_step"]
    with pytest.raises(SystemExit, match="loss of published is not the plain one"):
        step_cpu.main([*words, "--out", str(tmp_path), "--dtypes", "float32"])
    assert not (tmp_path / "step_cpu.jsonl").exists()


def test_a_checkout_needs_its_adapter(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        step_cpu.main(["--published", "."])
    assert "--published and --published-step go together" in capsys.readouterr().err
