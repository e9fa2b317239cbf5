"""What `fra-dist status` says, from files of a run alone."""

import json

import pytest

from fra_dist.cli.main import main
from fra_dist.launch.status.run_facts import facts
from fra_dist.launch.status.run_status import overview


def write(run, history, metrics, attempt=None):
    run.mkdir(parents=True, exist_ok=True)
    for name, rows in (("history", history), ("metrics", metrics)):
        (run / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    if attempt is not None:
        (run / "attempt.json").write_text(json.dumps({"attempt": attempt, "launch": "process 7 on here"}))


@pytest.fixture
def run(tmp_path):
    run = tmp_path / "run"
    history = [
        {"time": 1.0, "event": "start"},
        {"time": 2.0, "event": "launch restart", "attempt": 1, "cause": "rank 1 was killed", "steps_lost": 1},
        {"time": 3.0, "event": "resume", "step": 5},
        {"time": 4.0, "event": "stopped", "step": 9},
        {"time": 5.0, "event": "resume", "step": 9},
        {"time": 6.0, "event": "complete", "step": 20},
    ]
    metrics = [
        {"step": 18, "loss/total": 3.0, "loss/relation": 1.5, "images_per_second": 70.0, "seconds_left": 2.0},
        {"step": 18, "probe/faces/expression/linear": 0.61, "probe/seconds": 3.0},
        {"step": 20, "loss/total": 2.5, "loss/relation": None, "images_per_second": 72.0, "seconds_left": 0.0},
    ]
    write(run, history, metrics, attempt=3)
    return run


def test_loss_probes_and_restarts_that_agree_with_the_attempts(run):
    found = facts(run)
    assert found["state"] == "complete"
    assert found["loss"] == {"total": 2.5, "relation": 1.5}
    assert found["probes"] == {"faces/expression/linear": 0.61}
    assert (found["attempt"], found["restarts"], found["restarts_by_launcher"]) == (3, 2, 1)
    shown = overview(run)
    assert "loss       total 2.500, relation 1.500" in shown
    assert "probe      faces/expression/linear 0.610" in shown
    assert "restarts   2, 1 of them by the launcher" in shown
    assert "attempt 1: rank 1 was killed (1 step lost)" in shown


def test_several_runs_and_json(run, tmp_path, capsys):
    write(tmp_path / "other", [{"time": 1.0, "event": "start"}], [])
    assert main(["status", str(run), str(tmp_path / "other")]) == 0
    screens = capsys.readouterr().out.split("\n\n")
    assert [screen.splitlines()[0].split()[-1] for screen in screens] == [str(run), str(tmp_path / "other")]
    assert main(["status", str(run), str(tmp_path / "other"), "--json", "--watch", "1"]) == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [row["state"] for row in rows] == ["complete", "interrupted"]
    assert rows[1]["loss"] == {}
    assert main(["status", str(run), str(tmp_path / "none")]) == 2
