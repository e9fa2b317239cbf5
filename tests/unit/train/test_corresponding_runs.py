"""Training with the correspondence term and with clusters: resumption, skipped steps, parts of a step, whole runs."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from fra_dist.config import load_config
from fra_dist.errors import ConfigError
from fra_dist.losses.geometry import Placement, shown_pixels
from fra_dist.train.checkpoints.restoring import load_model
from tests.helpers.tiny import TINY
from tests.unit.train.test_extensions import batch, build, copies

CLUSTERS = ["loss.correspondence=1", "loss.exchange=true", "loss.exchange_group=4", "model.prototypes=clusters"]
SWITCHES = ["loss.local_form=contrast", "loss.local_centred=true", "model.cluster_centred=true"]
BYOL = ["model.decoder=null", "loss.local=0", "loss.relation=0", "model.pixel_head=true", "loss.correspondence=1"]


@pytest.mark.parametrize("overrides", [CLUSTERS, [*CLUSTERS, *SWITCHES], BYOL], ids=["clusters", "switches", "byol"])
def test_a_run_that_was_stopped_goes_on_to_the_bit(overrides: list[str]) -> None:
    step, engine, _ = build(*overrides)
    for number in range(2):
        step.run(number, *batch(number))
    saved = copies(engine.model_state()), copies(engine.optimizer_state())
    for number in range(2, 4):
        terms = step.run(number, *batch(number))
    later, other, _ = build(*overrides)
    other.load_model_state(saved[0])
    other.load_optimizer_state(saved[1])
    for number in range(2, 4):
        again = later.run(number, *batch(number))
    expected, found = engine.model_state(), other.model_state()
    assert all(torch.equal(value, found[name]) for name, value in expected.items())
    assert all(torch.equal(value, again[name]) for name, value in terms.items())


def test_prototypes_move_once_a_step_and_not_at_one_that_is_not_finite() -> None:
    step, engine, model = build(*CLUSTERS)
    views, geometry = batch(0)
    start = model.online.prototypes.clone()
    step.run(0, views, geometry)
    first = model.online.prototypes.clone()
    assert not torch.equal(first, start)
    bad = (views[0].clone(), *views[1:])
    bad[0][0, 0, 0, 0] = float("nan")
    before = copies(engine.model_state())
    assert step.run(1, bad, geometry)["step/applied"] == 0
    assert all(torch.equal(value, before[name]) for name, value in engine.model_state().items())
    assert not model.online.clusters.sums.any()
    step.run(2, *batch(2))
    assert model.online.prototypes.isfinite().all()
    assert not torch.equal(model.online.prototypes, first)


def test_a_step_counts_what_is_shown_over_all_its_passes() -> None:
    step, _, _ = build(*BYOL)
    geometry = batch(3)[1]
    placement = step._placement(geometry)
    assert placement is not None
    assert placement.shown is not None
    whole = Placement(placement.boxes, placement.flips)
    assert placement.shown == shown_pixels(whole, *step.map, torch.float32)
    assert placement.part(0, 4).shown is placement.shown
    halves = [shown_pixels(whole.part(n, n + 4), *step.map, torch.float32) for n in (0, 4)]
    assert halves[0] != halves[1]
    assert placement.shown == (halves[0] + halves[1]) / 2


def test_a_group_that_the_passes_cut_is_refused_before_the_first_step() -> None:
    with pytest.raises(
        ConfigError, match=r"loss.exchange pairs photos in groups of 8, which 1 rank and 2 forward pass"
    ):
        build("loss.correspondence=1", "loss.exchange=true")


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["loss.exchange=true"], "set loss.correspondence above 0"),
        ([*BYOL[:3], "loss.correspondence=1"], "set model.pixel_head=true"),
        (BYOL[:4], "set that above 0"),
        ([*BYOL[:3], "model.prototypes=clusters"], "model.decoder is null"),
        (["model.prototypes=clusters", "model.revive_dead.steps=3"], "set it to null"),
        (["model.cluster_centred=true"], "set model.prototypes=clusters"),
        (["model.detach_pooling=true", "model.detach_relation=true"], "leave pixel projections untrained"),
        ([*BYOL, "model.detach_relation=true"], "model.detach_relation is about regions"),
        (["loss.correspondence_temperature=0"], "loss.correspondence_temperature"),
        (["loss.exchange_group=1"], "loss.exchange_group"),
    ],
)  # fmt: skip
def test_settings_that_do_not_go_together_are_refused(overrides: list[str], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        load_config(None, overrides)


@pytest.mark.parametrize("overrides", [CLUSTERS, BYOL], ids=["clusters", "byol"])
def test_a_run(fra_dist: Callable[..., Any], shards: Path, tmp_path: Path, overrides: list[str]) -> None:
    (tmp_path / "tiny.yaml").write_text("name: tiny\n")
    words = ["pretrain", tmp_path / "tiny.yaml", f"data.shards={shards}", "output=run", *TINY, *overrides]
    done = fra_dist(*words, "data.pipeline=torch", "train.backend=torch", "log.heatmaps_every=4", timeout=240)
    assert done.returncode == 0, done.stderr
    rows = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    for name in ("loss/correspondence", "loss/correspondence_ratio", "views/overlap"):
        assert all(row[name] is not None for row in rows)
    model, config, _ = load_model(tmp_path / "run")
    found = model.online.infer(torch.randn(2, 3, 32, 32))
    if config.model.decoder is None:
        assert found.heatmap is None
    else:
        assert found.heatmap is not None
        assert model.online.prototypes.norm(dim=1).sub(1).abs().max() < 1e-5
        assert list((tmp_path / "run").rglob("*heatmap*"))
