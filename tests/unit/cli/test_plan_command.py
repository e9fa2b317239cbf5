"""`fra-dist plan`: figures that can be checked by hand, and refusals."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from fra_dist.cli.main import main
from fra_dist.data.shards.manifest import load_manifest
from tests.helpers.pictures import encoded

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


def test_photos_whose_shards_are_not_made(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    photos = tmp_path / "my photos"
    photos.mkdir()
    for number in range(6):
        (photos / f"{number}.png").write_bytes(encoded(np.full((40, 50, 3), 30 * number, np.uint8)))
    words = ["plan", "debug_cpu", f"data.photos={photos}", "data.shards=", "train.global_batch=4", "train.steps=3"]
    assert main([*words, "--ranks", "2"]) == 0
    said = capsys.readouterr().out
    assert f"6 photos in {photos}; the run makes shards of them" in said
    assert "4 images = 2 ranks x 1 accumulated x 2" in said
    assert "1.50 an epoch, 3 in all = 2.00 epochs" in said
    assert f"fra-dist shards make '{photos}' --size 256 --out SHARDS" in said
    assert sorted(tmp_path.iterdir()) == [photos], "a plan writes nothing"
    made = tmp_path / "made"
    assert main([*words, f"data.shards={made}"]) == 0, "where the run is going to put them"
    assert "the run makes shards" in capsys.readouterr().out
    assert main(["shards", "make", str(photos), "--out", str(made)]) == 0
    capsys.readouterr()
    assert main([*words, f"data.shards={made}"]) == 0
    assert "read rate" in capsys.readouterr().out
    for old in photos.iterdir():
        old.unlink()
    assert main(words) == 2
    assert capsys.readouterr().err == f"fra-dist plan: {photos} holds no photos: name another folder\n"


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
