"""The guard's judgement on plain numbers; `test_guard_actions.py` has what a run does about it."""

import itertools
import json
import math
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fra_dist.config import GuardConfig
from fra_dist.distributed import SINGLE
from fra_dist.errors import ConfigError, TrainingError
from fra_dist.train.guard_files import read_passed_over, read_retried, write_passed_over, write_retried
from fra_dist.train.guards import Guard, Verdict
from fra_dist.train.injected_faults import Faults

CALM = [1.0 + 0.01 * (i % 5) for i in range(40)]
NAN = float("nan")


def a_guard(losses: Sequence[float] = (), log_every: int = 5, **settings: object) -> Guard:
    guard = Guard(GuardConfig.model_validate(settings), log_every)
    guard.restore({"in_a_row": 0, "jumps_left_out": 0, "losses": list(losses)})
    return guard


def see(
    guard: Guard, losses: Sequence[float | None], applied: Sequence[float] | None = None, first: int = 0
) -> list[Verdict]:
    """One judgement on steps from `first` on; None: the step was left out."""
    for i, loss in enumerate(losses):
        if loss is None:
            guard.note_left_out(first + i)
        else:
            fine = float(math.isfinite(loss)) if applied is None else applied[i]
            guard.note(first + i, {"total": torch.tensor(loss), "step/applied": torch.tensor(fine)})
    return guard.judge(SINGLE)


def actions(verdicts: Sequence[Verdict]) -> list[str]:
    return [one.action for one in verdicts]


def test_calm_steps_pass() -> None:
    guard = a_guard(CALM)
    assert see(guard, [1.02, 1.0, 1.03, 1.01, 1.04]) == []
    assert [*guard.losses] == pytest.approx([*CALM, 1.04])  # the last one, at a log step


def test_a_step_that_is_not_finite_is_left_out() -> None:
    found = see(a_guard(), [1.0, NAN, 1.0, 1.0], [1, 0, 1, 0])
    assert [(one.step, one.action, one.reason) for one in found] == [
        (1, "skip", "the loss is not finite"),
        (3, "skip", "a gradient is not finite"),
    ]


def test_nine_bad_steps_and_a_fine_one_do_not_pass_with_patience_five() -> None:
    found = see(a_guard(log_every=10, patience=5), [*[NAN] * 9, 1.0])
    assert actions(found) == ["skip"] * 4 + ["stop"]
    assert found[-1].step == 4
    assert (
        found[-1]
        .diagnosis(Path("run/guard/step-00000005"))
        .startswith("stopped at step 5 (guard.patience=5): 5 steps in a row were not finite. Lower optim.lr")
    )


def test_a_jump_that_was_noted_is_not_the_cause_of_a_stop() -> None:
    found = see(a_guard(CALM, log_every=10, patience=3), [1.0, 3.0, NAN, NAN, NAN, 1.0])
    assert [(one.step, one.fault, one.action) for one in found] == [
        (1, "spike", "note"),
        (2, "nonfinite", "skip"),
        (3, "nonfinite", "skip"),
        (4, "nonfinite", "stop"),
    ]
    assert "3 steps in a row were not finite" in found[-1].reason


def test_the_row_goes_on_from_one_judgement_to_the_next() -> None:
    guard = a_guard(patience=3)
    assert actions(see(guard, [NAN, 1.0, NAN, NAN])) == ["skip"] * 3
    assert actions(see(guard, [NAN], first=4)) == ["stop"]


def test_stop_is_told_with_its_setting() -> None:
    (found,) = see(a_guard(nonfinite="stop"), [NAN, NAN])
    assert (found.action, found.setting, found.reason) == ("stop", "guard.nonfinite=stop", "the loss is not finite")
    (found,) = see(a_guard(CALM, spike="stop"), [5.0])
    assert (found.action, found.setting) == ("stop", "guard.spike=stop")


def test_retry_is_asked_for_once_and_then_the_step_is_to_be_left_out() -> None:
    guard = a_guard(nonfinite="retry")
    state = guard.state()
    (found,) = see(guard, [1.0, NAN, 1.0])
    assert (found.action, found.without_checkpoint) == ("retry", "skip")
    guard.retried.add(found.step)
    guard.restore(state)
    (found,) = see(guard, [1.0, NAN, 1.0])
    assert (found.action, found.without_checkpoint) == ("rollback", "skip")


def test_steps_that_fail_one_after_the_other_end_a_run_that_leaves_each_out() -> None:
    guard, state = a_guard(nonfinite="rollback", patience=4), a_guard().state()
    stopped = None
    while stopped is None and len(guard.passed_over) < 10:
        guard.restore(state)
        losses = [1.0, *(None if step in guard.passed_over else NAN for step in range(1, 12))]
        first, *_ = see(guard, losses)
        guard.passed_over[first.step] = first.fault
        stopped = first if first.action == "stop" else None
    assert stopped is not None
    assert (stopped.step, stopped.reason) == (4, "4 steps in a row were not finite")


def test_a_loss_that_has_moved_for_good_ends_a_run_that_leaves_jumps_out() -> None:
    guard, state = a_guard(CALM, spike="rollback", patience=3), a_guard(CALM).state()
    found: list[Verdict] = []
    for _ in range(3):
        guard.restore(state)
        verdict, *_ = see(guard, [1.0, *(None if step in guard.passed_over else 3.0 for step in range(1, 6))])
        guard.passed_over[verdict.step] = verdict.fault
        found.append(verdict)
    assert [(one.step, one.action) for one in found] == [(1, "rollback"), (2, "rollback"), (3, "stop")]
    assert "2 steps before it were left out" in found[-1].reason


def test_steps_that_the_user_leaves_out_are_no_faults() -> None:
    guard = a_guard(patience=3)
    guard.passed_over = {1: "", 2: "", 3: ""}
    assert actions(see(guard, [1.0, None, None, None, NAN])) == ["skip"]


@pytest.mark.parametrize("policy", ["note", "rollback"])
def test_a_jump_of_the_loss(policy: str) -> None:
    (found,) = see(a_guard(CALM, spike=policy), [1.01, 3.0, 1.0])
    assert (found.step, found.action, found.without_checkpoint) == (1, policy, "note")
    assert "robust deviations above its median" in found.reason


def test_jumps_are_not_judged_before_there_is_something_to_compare_with() -> None:
    assert see(a_guard(CALM[:10]), [50.0]) == []
    assert see(a_guard(CALM, spike_score=1000.0), [1.2]) == []


STEPS = st.lists(st.sampled_from([1.0, 1.01, 1.02, 3.0, NAN, None]), min_size=1, max_size=60)


@given(STEPS, st.lists(st.integers(1, 59), max_size=6), st.integers(1, 7))
def test_neither_the_looks_nor_a_restart_change_a_verdict(
    losses: list[float | None], cuts: list[int], log_every: int
) -> None:
    """A guard that looks at the end, one that looks at each cut, and one that is made again there from JSON."""
    left_out = {step: "nonfinite" for step, loss in enumerate(losses) if loss is None}
    whole, often = (a_guard(CALM[:20], log_every, patience=4, spike_window=20) for _ in range(2))
    whole.passed_over = often.passed_over = left_out
    wanted, found, anew = see(whole, losses), [], []
    state = json.loads(json.dumps(a_guard(CALM[:20]).state()))
    edges = [0, *sorted({cut for cut in cuts if cut < len(losses)}), len(losses)]
    for begin, end in itertools.pairwise(edges):
        fresh = Guard(GuardConfig(patience=4, spike_window=20), log_every, left_out)
        fresh.restore(state)
        if actions(found)[-1:] != ["stop"]:
            found += see(often, losses[begin:end], first=begin)
            anew += see(fresh, losses[begin:end], first=begin)
        state = json.loads(json.dumps(fresh.state()))
    assert found == wanted
    assert anew == wanted


def test_steps_that_were_undone_leave_the_window() -> None:
    guard = a_guard(CALM, log_every=1)
    kept = guard.state()
    see(guard, [2.0, 2.0, NAN])
    guard.note(3, {"total": torch.tensor(9.0), "step/applied": torch.tensor(1.0)})
    guard.restore(kept)
    assert guard.state() == kept
    assert guard.judge(SINGLE) == [], "what was noted before the return is forgotten"
    assert list(guard.losses) == CALM


def test_the_lists_of_steps_outlive_the_process(tmp_path: Path) -> None:
    assert (read_passed_over(tmp_path), read_retried(tmp_path)) == ({}, [])
    write_passed_over(tmp_path, {40: "spike", 12: "nonfinite"})
    write_retried(tmp_path, {7, 3})
    assert read_passed_over(tmp_path) == {12: "nonfinite", 40: "spike"}
    assert read_retried(tmp_path) == [3, 7]
    assert sorted(path.name for path in (tmp_path / "guard").iterdir()) == ["passed_over.json", "retried.json"]
    (tmp_path / "guard" / "passed_over.json").write_text("[12, 40]")  # as a user writes it
    assert read_passed_over(tmp_path) == {12: "", 40: ""}


@pytest.mark.parametrize("text", ['{"a": 1', '{"a": 1}', "12", '"12"', "[[1]]"])
def test_a_damaged_list_of_steps_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "guard").mkdir()
    (tmp_path / "guard" / "passed_over.json").write_text(text)
    with pytest.raises(TrainingError, match="is damaged"):
        read_passed_over(tmp_path)


def test_a_list_of_steps_that_cannot_be_read_is_not_an_empty_one(tmp_path: Path) -> None:
    (tmp_path / "guard" / "passed_over.json").mkdir(parents=True)
    with pytest.raises(TrainingError, match=r"cannot be read .*: Is a directory"):
        read_passed_over(tmp_path)


def test_faults_are_understood_or_refused() -> None:
    faults = Faults({"FRA_DIST_FAULTS": "nan@5, nan!9"})
    assert (faults.once, faults.always) == ({5}, {9})
    with pytest.raises(ConfigError, match="is not understood"):
        Faults({"FRA_DIST_FAULTS": "nan@0"})
