import json
import signal

import pytest
import torch

from fra_dist.config import load_config
from fra_dist.errors import CheckpointError, LaunchError
from fra_dist.launch.resume_trial import MEANS, draw_stops, resume_trial_config
from fra_dist.launch.resume_verdict import compare_runs, near
from fra_dist.train.checkpoints.writing import Contents, save_checkpoint


def write(path, rows):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


@pytest.fixture(scope="module")
def config():
    return load_config(None, ["model.backbone=tiny"])


@pytest.fixture
def make(tmp_path, config):
    """make(name, world, weight, rows): a finished run folder of four steps."""

    def run(name, world=1, weight=1.0, losses=(4.0, 3.0, 2.0, 1.0), momentum=0.5, ids=None):
        folder = tmp_path / name
        write(
            folder / "metrics.jsonl",
            [
                {"step": step, "loss/total": loss, "images_per_second": world * 7.0, "memory_mib": world}
                for step, loss in enumerate(losses, 1)
            ],
        )
        for rank in range(world):
            rows = [{"step": s, "world": world, "ids": (ids or [8, 5, 6, 7])[rank::world]} for s in range(1, 5)]
            write(folder / "samples" / f"rank-{rank:05d}.jsonl", rows)
        model = {"online.weight": torch.tensor([weight, 2.0]), "target.weight": torch.tensor([float("nan")])}
        save_checkpoint(
            folder / "checkpoints", Contents(4, config, model, {"online.weight/m": torch.tensor([momentum])}, {})
        )
        return folder

    return run


def test_the_same_run_is_the_same(make):
    verdict = compare_runs(make("a"), make("b"))
    assert verdict.good
    assert "model.safetensors: 2 of 2 tensors the same to the bit" in verdict.lines
    assert "samples: 4 of 4 steps the same" in verdict.lines


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({"weight": 1.0 + 2**-23}, "model.safetensors: online.weight differs"),
        ({"momentum": 0.75}, "optimizer.safetensors: online.weight/m differs (values, largest |a-b| 0.25"),
        ({"losses": (4.0, 3.0, 2.5, 1.0)}, "metrics: loss/total of step 3 is 2.0 and 2.5"),
        ({"losses": (4.0, 3.0, 2.0)}, "metrics: step 4 is only in the first run"),
        ({"losses": (4.0, 3.0, 2.0, 1.0, 0.5)}, "metrics: step 5 is only in the second run"),
        ({"ids": [8, 5, 6, 9]}, "samples: step 1 differs"),
    ],
)
def test_each_difference_is_found_and_named(make, change, fault):
    verdict = compare_runs(make("a"), make("b", **change))
    assert not verdict.good
    assert fault in verdict.faults[0]


def test_another_world_size(make):
    verdict = near(make("a", world=1), make("b", world=2, losses=(4.0, 3.0, 2.00001, 1.1), weight=1.5), 2, double=False)
    assert verdict.good
    assert any("5.00e-06" in line for line in verdict.lines)
    assert any("values differ by 5.00e-01 at most" in line for line in verdict.lines)


@pytest.mark.parametrize(
    ("change", "double", "fault"),
    [
        ({"losses": (4.0, 3.0, 2.001, 1.0)}, False, "the first loss after the resume is off by 5.00e-04"),
        ({"losses": (4.0, 3.0, None, 1.0)}, False, "off by inf"),
        ({"losses": (4.0, 3.0, 2.0, 1.00001)}, True, "in float64 a later loss is off by 1.00e-05"),
        ({"ids": [8, 5, 6, 1]}, False, "samples: step 1 differs"),
    ],
)
def test_what_another_world_size_does_not_excuse(make, change, double, fault):
    verdict = near(make("a"), make("b", world=4, **change), 2, double)
    assert fault in verdict.faults[0]


def test_a_run_without_checkpoints(make, tmp_path):
    (tmp_path / "b").mkdir()
    with pytest.raises(CheckpointError, match="no good checkpoint"):
        compare_runs(make("a"), tmp_path / "b")


@pytest.mark.parametrize("count", [1, 3, 7])
def test_stops_are_drawn_from_the_seed_at_different_steps(count):
    stops = draw_stops(count, 40, seed=5)
    assert stops == draw_stops(count, 40, seed=5)
    assert stops != draw_stops(count, 40, seed=6)
    assert len({stop.step for stop in stops}) == count
    assert all(1 <= stop.step <= 30 for stop in stops)
    assert len({stop.means for stop in stops}) == min(count, len(MEANS))
    assert signal.SIGKILL in MEANS


def test_more_stops_than_steps():
    with pytest.raises(LaunchError, match="places for 5 stops"):
        draw_stops(6, 8, 0)


@pytest.mark.parametrize(("given", "steps"), [(None, 40), (12, 12), (99, 40)])
def test_the_configuration_of_a_trial(given, steps, config):
    given_steps = [f"train.steps={given}"] if given else []
    trial = resume_trial_config(load_config(None, ["optim.warmup_steps=50", "train.epochs=9", *given_steps]), 40)
    assert trial.train.steps == steps
    assert trial.optim.warmup_steps == steps // 4
    assert trial.log.every_steps == 1
    assert trial.log.samples
    assert 1 <= trial.checkpoint.every_steps < steps


def test_rows_of_one_step_are_one_and_scores_are_compared(make):
    one, two = make("one"), make("two")
    for run, score in ((one, 0.5), (two, 0.6)):
        row = {"step": 2, "probe/faces/expression/knn_accuracy": score, "probe/seconds": score}
        with (run / "metrics.jsonl").open("a") as stream:
            stream.write(json.dumps({"step": 0, "probe/seconds": score}) + "\n" + json.dumps(row) + "\n")
    (fault,) = compare_runs(one, two).faults
    assert fault == "metrics: probe/faces/expression/knn_accuracy of step 2 is 0.5 and 0.6"
    assert near(one, two, resumed=2, double=True).good, "step 0 has no loss"
