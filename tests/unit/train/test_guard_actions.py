"""What a real run does about the guard's verdicts: in this process, on a handful of faces."""

import hashlib
import json
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from torch import Tensor

from fra_dist import distributed
from fra_dist.config import load_config
from fra_dist.data.loading.batch import Batch
from fra_dist.data.shards.manifest import load_manifest
from fra_dist.errors import TrainingError
from fra_dist.json_lines import read_rows
from fra_dist.train.checkpoints.reading import MANIFEST, STATE, manifest_check, newest_good
from fra_dist.train.guard_files import read_passed_over, write_passed_over
from fra_dist.train.hooks.metrics import Metrics
from fra_dist.train.hooks.sample_log import SampleLog
from fra_dist.train.hooks.saving import Checkpoints
from fra_dist.train.prepare import close, prepare
from fra_dist.train.run_dir.folder import repeatable
from fra_dist.train.signals import StopFlag
from fra_dist.train.trainer import Hook, Run, train
from tests.helpers.tiny import TINY


class Boundaries(Hook):
    """Which steps hooks heard of, and which returns."""

    def __init__(self) -> None:
        self.heard: list[int] = []
        self.returns: list[int] = []

    def after_step(self, run: Run, batch: Batch, terms: Mapping[str, Tensor]) -> None:
        self.heard.append(run.completed)

    def went_back(self, run: Run) -> None:
        self.returns.append(run.completed)


@pytest.fixture(autouse=True)
def _leave() -> Iterator[None]:
    yield
    distributed.stop()


@contextmanager
def a_run(shards: Path, output: Path, *words: str) -> Iterator[Run]:
    settings = [*TINY, f"data.shards={shards}", f"output={output}", "train.backend=torch", "checkpoint.every_steps=3"]
    run = prepare(load_config(None, [*settings, "log.samples=true", "checkpoint.asynchronous=false", *words]))
    try:
        yield run
    finally:
        close(run)


def go(shards: Path, output: Path, *words: str) -> Boundaries:
    """Train to the end; one attempt."""
    seen = Boundaries()
    with a_run(shards, output, *words) as run:
        assert train(run, [SampleLog(), Metrics(), Checkpoints(), seen])
    return seen


def rows(run: Path) -> list[dict[str, Any]]:
    return [repeatable(row) for row in read_rows(run / "metrics.jsonl")]


def guard_events(run: Path) -> list[tuple[int, str]]:
    return [(row["step"], row["action"]) for row in read_rows(run / "history.jsonl") if row["event"] == "guard"]


def saved(run: Path) -> list[str]:
    return sorted(path.name for path in (run / "checkpoints").glob("step-*"))


def memory(run: Path) -> dict[str, Any]:
    found, _ = newest_good(run / "checkpoints")
    assert found is not None
    return found.memory


def test_bad_steps_are_counted_as_they_are_met(shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Seven bad steps and a fine one in one window between log steps."""
    monkeypatch.setenv("FRA_DIST_FAULTS", ",".join(f"nan!{step}" for step in range(1, 8)))
    with pytest.raises(TrainingError, match=r"stopped at step 5 \(guard.patience=5\): 5 steps in a row were not"):
        go(shards, tmp_path / "run", "log.every_steps=8", "checkpoint.every_steps=8")
    assert guard_events(tmp_path / "run") == [*((step, "skip") for step in range(1, 5)), (5, "stop")]


def test_a_fault_is_described_with_its_samples(shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = tmp_path / "a run"
    monkeypatch.setenv("FRA_DIST_FAULTS", "nan!2")
    go(shards, run)
    kept = run / "guard" / "step-00000002"
    described = json.loads((kept / "batch.json").read_text())
    read = [row["ids"] for row in read_rows(run / "samples" / "rank-00000.jsonl") if row["step"] == 2]
    assert [described["samples"]] == read
    assert described["named"][0]["shard"].endswith(".tar")
    assert f"fra-dist replay '{run}' 2" in (kept / "reproduce.sh").read_text()


@pytest.mark.parametrize("policy", ["retry", "rollback"])
def test_a_step_that_is_passed_over_swallows_nothing(
    shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, policy: str
) -> None:
    """Step 6 always fails, and a row and a checkpoint are due at it."""
    monkeypatch.setenv("FRA_DIST_FAULTS", "nan!6")
    run = tmp_path / "run"
    seen = go(shards, run, f"guard.nonfinite={policy}", "log.every_steps=3", "checkpoint.keep_last=9")
    assert guard_events(run) == [*([(6, "retry")] if policy == "retry" else []), (6, "rollback")]
    assert seen.returns == [3] * len(guard_events(run))
    assert seen.heard[-5:] == [4, 5, 6, 7, 8]
    assert saved(run) == [f"step-{step:08d}" for step in (3, 6, 8)]
    assert [row["step"] for row in rows(run)] == [3, 6, 8]
    left_out = rows(run)[1]
    assert left_out["step/applied"] == 0.0
    assert "loss/total" not in left_out
    read = [row["step"] for row in read_rows(run / "samples" / "rank-00000.jsonl")]
    assert read == [1, 2, 3, 4, 5, 7, 8], "nothing was trained on in step 6"


def test_the_last_step_may_be_one_that_is_passed_over(
    shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FRA_DIST_FAULTS", "nan!8")
    go(shards, tmp_path / "run", "guard.nonfinite=rollback")
    assert rows(tmp_path / "run")[-1]["step"] == 8
    assert saved(tmp_path / "run")[-1] == "step-00000008"


def test_a_stop_is_heard_at_a_step_that_is_passed_over(shards: Path, tmp_path: Path) -> None:
    write_passed_over(tmp_path, {0: ""})
    with a_run(shards, tmp_path) as run, StopFlag() as stop:
        batch = next(run.batches())
        assert run.take_step(batch) == {}
        run.agree(stop)
        assert not run.looks_wrong()


def test_a_bad_photo_counts_once_however_often_the_run_goes_back(
    shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = _with_broken_photos(shards, tmp_path / "shards")
    for name, faults in (("calm", ""), ("back", "nan@5,nan@6,nan@8")):
        monkeypatch.setenv("FRA_DIST_FAULTS", faults)
        go(broken, tmp_path / name, "guard.nonfinite=retry", "data.max_bad_share=1")
    assert len(guard_events(tmp_path / "back")) == 3
    calm, back = rows(tmp_path / "calm"), rows(tmp_path / "back")
    counts = [row["quarantined"] for row in calm]
    assert counts[-1] > counts[2], "some are met after the checkpoint that the run goes back to"
    assert calm == back
    noted = [read_rows(tmp_path / name / "quarantine.jsonl") for name in ("calm", "back")]
    assert noted[0] == noted[1]
    assert counts[-1] == len({row["id"] for row in noted[0]})


def _with_broken_photos(shards: Path, target: Path) -> Path:
    """A copy in which every fifth photo is overwritten by zeros."""
    shutil.copytree(shards, target)
    manifest = load_manifest(target)
    for sample in range(0, manifest.total, 5):
        shard, row = manifest.row(sample)
        with (target / manifest.shards[shard].name).open("r+b") as stream:
            stream.seek(int(row["offset"]))
            stream.write(bytes(int(row["length"])))
    return target


def test_the_count_and_the_window_go_on_from_a_checkpoint(
    shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Steps 5 to 7 fail; a run that stops at 6 and resumes ends where an undisturbed one does."""
    monkeypatch.setenv("FRA_DIST_FAULTS", "nan!5,nan!6,nan!7")
    words = ("guard.patience=3", "log.every_steps=4")
    with pytest.raises(TrainingError, match=r"stopped at step 7 .*: 3 steps in a row"):
        go(shards, tmp_path / "whole", *words)
    with a_run(shards, tmp_path / "cut", *words) as run:
        _train_until(run, 6)
    assert memory(tmp_path / "cut")["guard"]["in_a_row"] == 2
    assert len(memory(tmp_path / "cut")["guard"]["losses"]) == 1
    with pytest.raises(TrainingError, match=r"stopped at step 7 .*: 3 steps in a row"):
        go(shards, tmp_path / "cut", *words)


def _train_until(run: Run, step: int) -> None:
    class Stopper(Hook):
        def after_step(self, run: Run, batch: Batch, terms: Mapping[str, Tensor]) -> None:
            if run.completed == step:
                run.stopped_by = "SIGTERM"

    assert not train(run, [SampleLog(), Metrics(), Checkpoints(), Stopper()])


def test_a_retry_is_not_forgotten_by_a_restart(shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The run is killed after it went back for step 5: it must not go back for it again."""
    monkeypatch.setenv("FRA_DIST_FAULTS", "nan!5")
    run = tmp_path / "run"

    class Kill(Hook):
        def went_back(self, run: Run) -> None:
            raise KeyboardInterrupt

    with a_run(shards, run, "guard.nonfinite=retry") as first, pytest.raises(KeyboardInterrupt):
        train(first, [SampleLog(), Metrics(), Checkpoints(), Kill()])
    go(shards, run, "guard.nonfinite=retry")
    assert guard_events(run) == [(5, "retry"), (5, "rollback")]
    assert read_passed_over(run) == {4: "nonfinite"}


def test_losses_of_steps_that_were_undone_leave_the_window(
    shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, faults in (("calm", ""), ("retried", "nan@8")):
        monkeypatch.setenv("FRA_DIST_FAULTS", faults)
        go(shards, tmp_path / name, "guard.nonfinite=retry")
    assert guard_events(tmp_path / "retried") == [(8, "retry")]
    assert len(memory(tmp_path / "calm")["guard"]["losses"]) == 8
    assert memory(tmp_path / "retried") == memory(tmp_path / "calm")


def test_a_checkpoint_from_before_the_guard_was_kept_gives_the_losses_of_its_rows(shards: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    go(shards, run)
    losses = memory(run)["guard"]["losses"]
    for name in saved(run)[1:]:
        shutil.rmtree(run / "checkpoints" / name)
    _forget_guard(run / "checkpoints" / saved(run)[0])
    with a_run(shards, run) as again:
        assert again.completed == 3
        assert again.guard.state() == {"in_a_row": 0, "jumps_left_out": 0, "losses": losses[:3]}
    go(shards, run)
    assert memory(run)["guard"]["losses"] == losses


def _forget_guard(checkpoint: Path) -> None:
    """Write a checkpoint again as one whose memory holds nothing of the guard, with right sums."""
    state = json.loads((checkpoint / STATE).read_text())
    del state["memory"]["guard"]
    data = json.dumps(state).encode()
    (checkpoint / STATE).write_bytes(data)
    manifest = json.loads((checkpoint / MANIFEST).read_text())
    manifest["files"][STATE] = {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    (checkpoint / MANIFEST).write_text(json.dumps({**manifest, "check": manifest_check(manifest)}))
