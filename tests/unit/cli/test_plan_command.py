"""`fra-dist plan`: figures that can be checked by hand, and refusals."""

from collections.abc import Callable
from pathlib import Path

import pytest

from fra_dist.cli.main import main
from fra_dist.data.shards.manifest import load_manifest

Say = Callable[..., dict[str, str]]


@pytest.fixture
def say(shards: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Say:
    config = tmp_path / "run.yaml"
    config.write_text(f"data: {{shards: {shards}, shuffle_window: 8}}\ntrain: {{epochs: 2}}\n")

    def run(*words: str) -> dict[str, str]:
        assert main(["plan", str(config), "optim.warmup_steps=1", *words]) == 0
        lines = capsys.readouterr().out.splitlines()
        return {line[:12].strip(): line[13:] for line in lines}

    return run


def test_figures_of_a_small_set(say: Say, shards: Path) -> None:
    total = load_manifest(shards).total
    batch = total // 2 - total // 2 % 4
    facts = say(f"train.global_batch={batch}", "train.micro_batch=2", "--ranks", "2", "--per-node", "1")
    assert facts["data"].startswith(f"{total} samples, ")
    assert f"{batch} images = 2 ranks x {batch // 4} accumulated x 2" in facts["batch"]
    assert facts["steps"].startswith(f"{total / batch:.2f} an epoch")
    if total % batch:
        assert f"the last {total % batch} samples" in facts["last batch"]
    assert f"rank 0 reads {total // 2} samples" in facts["ranks"]
    assert "a node of 1 rank reads from" in facts["cache"]
    assert "at 1,000 images/s a rank" in facts["read rate"]


def test_a_whole_epoch_has_no_short_batch(say: Say, shards: Path) -> None:
    assert say(f"train.global_batch={load_manifest(shards).total}")["last batch"] == (
        "an epoch is a whole number of batches"
    )


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["train.global_batch=100000"], "fewer than one global batch"),
        (["train.global_batch=8", "--ranks", "3"], "cannot be divided over 3 ranks"),
        (["train.global_batch=8", "--ranks", "0"], "must be above 0"),
        (["train.global_batch=8", "--ranks", "4", "--per-node", "3"], "not a multiple"),
        (["train.global_batch=8", "--rate", "nan"], "must be above 0"),
    ],
)
def test_what_cannot_work_is_refused(
    words: list[str], reason: str, shards: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tmp_path / "run.yaml"
    config.write_text(f"data: {{shards: {shards}}}\n")
    assert main(["plan", str(config), *words]) == 2
    said = capsys.readouterr().err
    assert reason in said
    assert said.count("\n") == 1
