"""`benchmarks/step_tiny.py`: this checkout against itself, and what is made of the times."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import step_tiny

ROOT = Path(__file__).parents[3]


def test_two_checkouts_take_turns_at_the_same_step(tmp_path: Path) -> None:
    command = [sys.executable, str(ROOT / "benchmarks/step_tiny.py"), "--against", str(ROOT), "--rounds", "2"]
    smaller = ["--set", "model.hidden=32", "model.width=16"]
    done = subprocess.run([*command, "--out", str(tmp_path), *smaller], capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr
    (row,) = [json.loads(line) for line in (tmp_path / "step_tiny.jsonl").read_text().splitlines()]
    assert row["old_loss"] == row["new_loss"] > 0
    assert row["old_over_new"] > 0
    assert row["rounds"] == 2
    assert row["changes"] == smaller[1:]


def test_ratios_are_of_the_same_round() -> None:
    pairs = [(2.0, 1.0), (9.0, 3.0), (4.0, 1.0)]
    rounds = [{"old": {"seconds": old, "loss": 1.5}, "new": {"seconds": new, "loss": 1.5}} for old, new in pairs]
    found = step_tiny.summary(rounds)
    assert (found["old_over_new"], found["old_ms"], found["new_ms"]) == (3.0, 4000.0, 1000.0)
    assert found["quartiles"] == [2.0, 4.0]


def test_the_other_checkout_must_be_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["step_tiny.py", "--against", str(tmp_path)])
    with pytest.raises(SystemExit):
        step_tiny.main()
