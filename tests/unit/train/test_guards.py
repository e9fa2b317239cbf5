"""The guard's judgement on plain numbers; `tests/unit/cli/test_guarded_run.py` has real runs."""

import json
import math
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from fra_dist.config import GuardConfig
from fra_dist.data.order.plan import PlannedBatch
from fra_dist.distributed import SINGLE
from fra_dist.errors import ConfigError, TrainingError
from fra_dist.train import guards
from fra_dist.train.guards import Guard, read_passed_over
from fra_dist.train.injected_faults import Faults

CALM = [1.0 + 0.01 * (i % 5) for i in range(40)]


class FakeRun:
    """What a guard asks of a run."""

    def __init__(self, folder: Path, checkpoint: int | None = 3) -> None:
        self.checkpoint, self.returns = checkpoint, 0
        self.notes: list[dict[str, object]] = []
        self.completed = 0
        self.config = SimpleNamespace(log=SimpleNamespace(every_steps=5))
        self.ctx = SimpleNamespace(cross=SINGLE, is_main=True, world=1)
        self.folder = SimpleNamespace(path=folder, note=lambda event, **facts: self.notes.append(facts))
        ids = torch.arange(4).numpy()
        self.loader = SimpleNamespace(plan=SimpleNamespace(batch=lambda step: PlannedBatch(ids, ids * 0)))
        self.manifest = SimpleNamespace(where=lambda sample: ("a.tar", f"face{sample}"))

    def actions(self) -> list[object]:
        return [note["action"] for note in self.notes if "action" in note]


@pytest.fixture(autouse=True)
def back(monkeypatch: pytest.MonkeyPatch) -> None:
    def go_back(run: FakeRun, before: int) -> int | None:
        run.returns += 1
        return run.checkpoint

    monkeypatch.setattr(guards, "go_back", go_back)


def see(guard: Guard, run: FakeRun, losses: list[float], applied: list[float] | None = None, first: int = 0) -> bool:
    for i, loss in enumerate(losses):
        fine = float(math.isfinite(loss)) if applied is None else applied[i]
        guard.note(first + i, {"total": torch.tensor(loss), "applied": torch.tensor(fine)})
    run.completed = first + len(losses)
    return guard.look(run)  # type: ignore[arg-type]


def test_calm_steps_pass(tmp_path: Path) -> None:
    guard, run = Guard(GuardConfig(), tmp_path, CALM), FakeRun(tmp_path)
    assert not see(guard, run, [1.02, 1.0, 1.03, 1.01, 1.04])
    assert run.notes == []
    assert not (tmp_path / "guard").exists()
    assert len(guard.losses) == 41  # the last one, at a log step


def test_a_step_that_is_not_finite_is_left_out_and_described(tmp_path: Path) -> None:
    guard, run = Guard(GuardConfig(), tmp_path, []), FakeRun(tmp_path)
    assert not see(guard, run, [1.0, float("nan"), 1.0, 1.0], [1, 0, 1, 0])
    assert run.actions() == ["skip", "skip"]
    assert [note["step"] for note in run.notes] == [2, 4]
    assert [note["reason"] for note in run.notes] == ["the loss is not finite", "a gradient is not finite"]
    kept = json.loads((tmp_path / "guard" / "step-00000002" / "batch.json").read_text())
    assert kept["samples"] == [0, 1, 2, 3]
    assert kept["named"][2] == {"id": 2, "shard": "a.tar", "key": "face2"}
    assert f"fra-dist replay {tmp_path} 2" in (tmp_path / "guard" / "step-00000002" / "reproduce.sh").read_text()


def test_retry_goes_back_once_and_then_leaves_the_step_out(tmp_path: Path) -> None:
    guard, run = Guard(GuardConfig(nonfinite="retry"), tmp_path, []), FakeRun(tmp_path)
    assert see(guard, run, [1.0, float("inf"), 1.0])
    assert guard.passed_over == set()
    assert see(guard, run, [1.0, float("inf"), 1.0])
    assert guard.passed_over == {1}
    assert run.actions() == ["retry", "rollback"]
    assert run.notes[0]["to"] == 3
    assert read_passed_over(tmp_path) == {1}
    assert Guard(GuardConfig(), tmp_path, []).passed_over == {1}


def test_rollback_leaves_the_step_out_at_once(tmp_path: Path) -> None:
    guard, run = Guard(GuardConfig(nonfinite="rollback"), tmp_path, []), FakeRun(tmp_path)
    assert see(guard, run, [float("nan"), float("nan")], first=7)
    assert run.returns == 1, "the steps after it will be done again"
    assert guard.passed_over == {7}


def test_without_a_checkpoint_the_step_is_only_left_out(tmp_path: Path) -> None:
    guard, run = Guard(GuardConfig(nonfinite="rollback"), tmp_path, []), FakeRun(tmp_path, checkpoint=None)
    assert not see(guard, run, [float("nan")])
    assert run.actions() == ["skip"]
    assert guard.passed_over == set()


def test_stop_and_patience_end_the_run_with_a_diagnosis(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match=r"stopped at step 1 \(guard.nonfinite=stop\): the loss is not finite"):
        see(Guard(GuardConfig(nonfinite="stop"), tmp_path, []), FakeRun(tmp_path), [float("nan")])
    guard, run = Guard(GuardConfig(patience=3), tmp_path, []), FakeRun(tmp_path)
    assert not see(guard, run, [float("nan"), 1.0, float("nan"), float("nan")])
    with pytest.raises(TrainingError, match="3 steps in a row were not finite"):
        see(guard, run, [float("nan")], first=4)
    assert run.actions() == ["skip", "skip", "skip", "stop"]


@pytest.mark.parametrize(("policy", "action"), [("note", "note"), ("rollback", "rollback")])
def test_a_jump_of_the_loss(tmp_path: Path, policy: str, action: str) -> None:
    guard, run = Guard(GuardConfig(spike=policy), tmp_path, CALM), FakeRun(tmp_path)
    assert see(guard, run, [1.01, 3.0, 1.0]) == (policy == "rollback")
    assert run.actions() == [action]
    assert "robust deviations above its median" in str(run.notes[0]["reason"])


def test_jumps_are_not_judged_before_there_is_something_to_compare_with(tmp_path: Path) -> None:
    run = FakeRun(tmp_path)
    assert not see(Guard(GuardConfig(), tmp_path, CALM[:10]), run, [50.0])
    assert not see(Guard(GuardConfig(spike_score=1000.0), tmp_path, CALM), run, [1.2])
    assert run.notes == []


def test_a_damaged_list_of_steps_is_refused(tmp_path: Path) -> None:
    (tmp_path / "guard").mkdir()
    (tmp_path / "guard" / "passed_over.json").write_text('{"a": 1')
    with pytest.raises(TrainingError, match="is damaged"):
        read_passed_over(tmp_path)


def test_faults_are_understood_or_refused() -> None:
    faults = Faults({"FRA_DIST_FAULTS": "nan@5, nan!9"})
    assert (faults.once, faults.always) == ({5}, {9})
    with pytest.raises(ConfigError, match="is not understood"):
        Faults({"FRA_DIST_FAULTS": "nan@0"})
