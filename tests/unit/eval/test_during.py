"""Scores during training, without a training: `tests/unit/cli/test_probed_run.py` has real runs."""

import random
import time
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from fra_dist.config import ProbeConfig, ProbeSet, parse_config
from fra_dist.errors import ConfigError, DataError
from fra_dist.eval import during
from fra_dist.eval.datasets import open_set
from fra_dist.eval.during import Probes, measure_sets, open_probed, share_out
from fra_dist.eval.miniatures import write_miniature
from fra_dist.eval.quick_look import tasks_of
from fra_dist.models.fra import FRA

SETTINGS = {
    "model": {
        "backbone": "tiny", "regions": 4, "width": 16, "hidden": 32,
        "decoder": {"layers": 1, "heads": 2, "feedforward": 16},
    },
    "data": {"image_size": 32},
    "probe": {"every_steps": 4, "sets": [{"data": "x"}]},
}  # fmt: skip


@pytest.fixture
def probed(shards):
    return open_probed(ProbeSet(data=str(shards)), ProbeConfig(images=40), 32, 0)


@pytest.fixture
def run(tmp_path):
    torch.manual_seed(0)
    notes, rows = [], []
    return SimpleNamespace(
        config=parse_config(SETTINGS),
        model=FRA(parse_config(SETTINGS).model).train(),
        completed=0,
        stopped_by=None,
        sizes=SimpleNamespace(total_steps=10),
        ctx=SimpleNamespace(is_main=True, meet=lambda: None),
        folder=SimpleNamespace(path=tmp_path, note=lambda event, **facts: notes.append(facts)),
        notes=notes,
        rows=rows,
    )


def state_of(model):
    return {name: value.clone() for name, value in model.state_dict().items()}


def test_nothing_of_the_run_changes(run, probed):
    run.model.online.projector.eval()  # whatever mode a module is in is put back
    before, modes = state_of(run.model), [module.training for module in run.model.modules()]
    generators = torch.get_rng_state(), np.random.get_state()[1].copy(), random.getstate()
    first, left_out = measure_sets(run, [probed], time.monotonic() + 60)
    assert left_out == {}
    assert all(value.equal(before[name]) for name, value in run.model.state_dict().items())
    assert [module.training for module in run.model.modules()] == modes
    assert torch.get_rng_state().equal(generators[0])
    assert (np.random.get_state()[1] == generators[1]).all()
    assert random.getstate() == generators[2]
    assert all(value.requires_grad for value in run.model.online.parameters())
    again, _ = measure_sets(run, [probed], time.monotonic() + 60)
    assert first == again, "the same weights, the same scores"
    assert all(name.startswith("probe/faces/") for name in first)


def test_a_run_in_double_precision_is_measured_too(run, probed):
    single, _ = measure_sets(run, [probed], time.monotonic() + 60)
    run.model.double()
    double, left_out = measure_sets(run, [probed], time.monotonic() + 60)
    assert left_out == {}
    assert double == pytest.approx(single, abs=0.05)


def test_a_task_that_fails_is_left_out_and_the_others_are_measured(run, probed, monkeypatch):
    def broken(job):
        raise ZeroDivisionError("no\nluck")

    monkeypatch.setitem(during.RUNNERS, "expression", broken)
    values, left_out = measure_sets(run, [probed], time.monotonic() + 60)
    assert left_out == {"faces/expression": "no luck"}
    assert {name.split("/")[2] for name in values} == {"attributes", "alignment", "regions"}
    assert run.model.online.training


def test_time_that_is_over_leaves_out_the_rest(run, probed, monkeypatch):
    now = [0.0]
    monkeypatch.setattr(during.time, "monotonic", lambda: now[0])
    counted = run.model.online.backbone.register_forward_hook(lambda *_: now.__setitem__(0, now[0] + 1.2))
    values, left_out = measure_sets(run, [probed], 1.0)  # one batch, once for all tasks
    counted.remove()
    assert {name.split("/")[2] for name in values} == {"expression"}
    assert set(left_out) == {"faces/attributes", "faces/alignment", "faces/regions"}
    assert "probe.seconds=60 were over" in left_out["faces/regions"]


class Told:
    """In place of the metrics."""

    def __init__(self, run):
        self.run = run

    def add(self, run, values, paused):
        assert paused == values["probe/seconds"]
        run.rows.append((run.completed, values))


def test_scores_of_a_step_are_owed_until_they_are_in_its_rows(run, probed, shards, monkeypatch):
    run.config = parse_config({**SETTINGS, "probe": {"every_steps": 4, "sets": [{"data": str(shards)}]}})
    monkeypatch.setattr(during, "measure_sets", lambda *_: ({"probe/faces/x/y": 1.0}, {"faces/z": "why"}))
    hook = Probes(Told(run))
    hook.begin(run)
    for run.completed in range(1, 11):
        run.stopped_by = "SIGTERM" if run.completed == 8 else None
        hook.after_step(run, None, {})
    assert [step for step, _ in run.rows] == [0, 4, 10], "none at a stop; the last step is measured too"
    assert len(run.notes) == 1, "the same reason is told once"
    run.completed, run.stopped_by, run.rows[:] = 8, None, []
    Probes(Told(run)).begin(run)
    assert [step for step, _ in run.rows] == [8], "what the stop left out"
    (run.folder.path / "metrics.jsonl").write_text('{"step": 8, "loss/total": 1}\n{"step": 8, "probe/seconds": 1}\n')
    run.rows.clear()
    Probes(Told(run)).begin(run)
    assert run.rows == []
    run.completed = run.sizes.total_steps  # a stop that came with the last step
    Probes(Told(run)).begin(run)
    assert [step for step, _ in run.rows] == [run.sizes.total_steps]


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"data": "nowhere"}, "nowhere"),
        ({"data": "SHARDS", "dataset": "what"}, "data set 'what' is not known"),
        ({"data": "SHARDS", "dataset": "rafdb"}, "list_patition_label.txt"),
        ({"data": "RAFDB", "dataset": "rafdb", "tasks": ("regions",)}, "has no labels for task regions"),
    ],
)
def test_sets_that_cannot_be_used_are_one_line(given, said, shards, tmp_path):
    write_miniature("rafdb", tmp_path / "rafdb", 8)
    given["data"] = given["data"].replace("SHARDS", str(shards)).replace("RAFDB", str(tmp_path / "rafdb"))
    with pytest.raises(DataError) as error:
        open_probed(ProbeSet(**given), ProbeConfig(), 32, 0)
    assert said in str(error.value)
    assert "\n" not in str(error.value)


def test_the_share_of_each_part_is_spread_evenly(shards):
    faces = open_set("shards", shards)
    assert tasks_of(faces) == ("expression", "attributes", "alignment", "verification", "regions")
    few = share_out(faces, 20)
    assert {split: len(few.of(split)) for split in ("train", "val", "test")} == {
        "train": 12, "val": min(3, len(faces.of("val"))), "test": 5
    }  # fmt: skip
    assert few.of("train")[0] == faces.of("train")[0]
    assert few.of("train")[-1] == faces.of("train")[-1]
    assert {record.name for record in share_out(faces, 10_000).records} == {record.name for record in faces.records}


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"probe": {"every_steps": 4}}, "probe.sets names no faces"),
        ({"probe": {"every_steps": 4, "sets": [{"data": "a/x"}, {"data": "b/x"}]}}, "'x' is not: set name"),
        ({"checkpoint": {"keep_best": "probe/x/y/z"}}, "one must be a multiple of the other"),
        (
            {
                "probe": {"every_steps": 4, "sets": [{"data": "x"}]},
                "checkpoint": {"keep_best": "probe/x/y/z", "every_steps": 6},
            },
            "one must be a multiple of the other",
        ),
    ],
)
def test_settings_that_do_not_go_together(wrong, said):
    with pytest.raises(ConfigError, match=said):
        parse_config(wrong)
