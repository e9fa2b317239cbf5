import json

import pytest

from fra_dist.json_lines import read_rows
from fra_dist.launch.ledger import Ledger, last_row, newest_step, read_state
from fra_dist.launch.outcome import Outcome, attempt_outcome
from fra_dist.launch.status.run_status import overview


def record(folder, rank, code, asked=False, time=0.0, log=""):
    row = {"rank": rank, "host": f"n{rank}", "code": code, "asked": asked, "time": time}
    (folder / f"rank-{rank}.json").write_text(json.dumps(row))
    (folder / f"rank-{rank}.log").write_text(log)


def checkpoint(run, step):
    (run / "checkpoints" / f"step-{step:08d}").mkdir(parents=True)


@pytest.mark.parametrize(
    ("codes", "kind"), [((0, 0), "complete"), ((75, 75), "stopped"), ((0, 75), "stopped"), ((0, 1), "failed")]
)
def test_outcomes(tmp_path, codes, kind):
    for rank, code in enumerate(codes):
        record(tmp_path, rank, code)
    assert attempt_outcome(tmp_path, 2).kind == kind


def test_the_rank_that_was_killed_is_the_cause_not_those_that_it_pulled_down(tmp_path):
    record(tmp_path, 0, 1, time=1.0, log="gloo: connection closed\n")
    record(tmp_path, 1, -9, time=2.0)
    assert attempt_outcome(tmp_path, 2).cause == "rank 1 on n1 was killed by SIGKILL"


def test_bad_input_wins_over_its_victims_and_brings_its_last_line(tmp_path):
    record(tmp_path, 0, -9)
    record(tmp_path, 1, 2, log="warning\nfra-dist pretrain: unknown key\n\n")
    assert attempt_outcome(tmp_path, 2) == Outcome("refused", "fra-dist pretrain: unknown key")


def test_ranks_without_a_record(tmp_path):
    record(tmp_path, 0, 0)
    outcome = attempt_outcome(tmp_path, 3)
    assert outcome.kind == "failed"
    assert outcome.cause.startswith("ranks 1, 2 ended without a word")


def test_failures_count_only_without_progress(tmp_path):
    ledger = Ledger.open(tmp_path, "x", max_failures=1)
    failed = Outcome("failed", "why")
    for step in (10, 20, 30):
        ledger.begin_attempt(2)
        checkpoint(tmp_path, step)
        assert ledger.settle(failed)
        assert ledger.delay() == 0
    ledger.begin_attempt(2)
    assert ledger.settle(failed)
    assert ledger.delay() == 1
    ledger = Ledger.open(tmp_path, "x", max_failures=1)  # a requeued job reads what the former wrote
    ledger.begin_attempt(2)
    assert not ledger.settle(failed)
    state = read_state(tmp_path)
    assert (state["state"], state["attempt"], state["restarts"]) == ("failed", 5, 4)
    assert state["reason"] == "2 failures without a newer checkpoint; the last: why"


def test_stops_do_not_count_and_steps_lost_are_noted(tmp_path):
    ledger = Ledger.open(tmp_path, "x")
    ledger.begin_attempt(1)
    checkpoint(tmp_path, 10)
    (tmp_path / "metrics.jsonl").write_text('{"step": 17}\n{"step": 1')
    assert ledger.settle(Outcome("stopped", "preempted"))
    (row,) = read_rows(tmp_path / "history.jsonl")
    assert (row["event"], row["cause"], row["steps_lost"], row["attempt"]) == ("launch restart", "preempted", 7, 1)
    assert not ledger.settle(Outcome("stopped"), ask_again=False)
    assert read_state(tmp_path)["state"] == "stopped"


def test_a_time_limit_that_is_too_short_ends_somewhere(tmp_path):
    ledger = Ledger.open(tmp_path, "x")
    rounds = 0
    while ledger.settle(Outcome("stopped")):
        rounds += 1
        assert rounds < 100
    assert "time limit" in ledger.reason


def test_another_launch_begins_anew(tmp_path):
    first = Ledger.open(tmp_path, "x")
    first.begin_attempt(2)
    first.settle(Outcome("refused", "bad"))
    second = Ledger.open(tmp_path, "y")
    assert (second.state, second.failures) == ("pending", 0)
    second.begin_attempt(2)


def test_steps_of_folders_and_rows(tmp_path):
    assert newest_step(tmp_path) == -1
    checkpoint(tmp_path, 5)
    (tmp_path / "checkpoints" / ".partial-00000009-1").mkdir()
    assert newest_step(tmp_path) == 5
    assert last_row(tmp_path / "none") == {}


def test_the_last_row_with_an_entry_passes_over_scores_of_its_step(tmp_path):
    rows = [{"step": 4, "images_per_second": 7.0}, {"step": 4, "probe/faces/x/y": 0.5, "probe/seconds": 1}]
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert last_row(tmp_path / "metrics.jsonl") == rows[1]
    assert last_row(tmp_path / "metrics.jsonl", "images_per_second") == rows[0]
    assert last_row(tmp_path / "metrics.jsonl", "lr") == {}


def test_the_overview_names_alarms_that_last(tmp_path):
    events = [
        {"event": "alarm", "sign": "rank", "step": 3, "text": "few directions"},
        {"event": "alarm", "sign": "spread", "step": 4, "text": "all alike"},
        {"event": "alarm over", "sign": "rank", "step": 6},
    ]
    (tmp_path / "history.jsonl").write_text("".join(json.dumps({"time": 1.0, **row}) + "\n" for row in events))
    shown = overview(tmp_path)
    assert "alarm      step 4: all alike" in shown
    assert "few directions" not in shown


@pytest.mark.parametrize(
    ("event", "lasts"),
    [
        ({"event": "resume", "step": 4}, True),
        ({"event": "resume", "step": 3}, False),
        ({"event": "guard", "step": 9, "to": 3}, False),
        ({"event": "guard", "step": 9, "action": "skip"}, True),
        ({"event": "start"}, False),
    ],
)
def test_the_overview_forgets_alarms_of_steps_that_are_done_again(tmp_path, event, lasts):
    events = [{"event": "alarm", "sign": "spread", "step": 4, "text": "all alike"}, event]
    (tmp_path / "history.jsonl").write_text("".join(json.dumps({"time": 1.0, **row}) + "\n" for row in events))
    assert ("all alike" in overview(tmp_path)) == lasts
