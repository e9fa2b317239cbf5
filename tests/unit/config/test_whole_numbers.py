"""Every whole number of the configuration has a bound, and the code holds what is inside it."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from fra_dist import distributed
from fra_dist.config import Config, load_config
from fra_dist.config.section import Section
from fra_dist.data.loading.batch import Batch
from fra_dist.data.order.plan import Plan
from fra_dist.errors import ConfigError
from fra_dist.train.hooks.metrics import Metrics
from fra_dist.train.hooks.sample_log import SampleLog
from fra_dist.train.hooks.saving import Checkpoints
from fra_dist.train.prepare import close, prepare
from fra_dist.train.sizes import MAX_STEPS, derive_sizes
from fra_dist.train.step import Step
from fra_dist.train.trainer import Hook, Run, train
from tests.helpers.tiny import TINY

LARGEST_SEED = 2**63 - 1
EXPENSIVE = {  # at their bound they take memory or time, as they say
    *("data.threads", "data.prefetch", "data.image_size", "data.local_views", "data.local_size", "train.global_batch"),
    *("model.regions", "model.width", "model.hidden", "model.decoder.layers", "model.decoder.heads"),
    *("model.decoder.feedforward", "log.heatmap_images", "train.zero_stage", "loss.sinkhorn_rounds"),
}
TOGETHER = {"optim.warmup_steps"}  # must be less than train.steps
NEEDS_MORE = {"probe.every_steps", "probe.images"}  # labelled faces


def numbers(section: type[Section] = Config, prefix: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """(dotted key, JSON schema) of every whole number that is a value of its own."""
    schema = section.model_json_schema()
    for name, value in schema["properties"].items():
        yield from _numbers(prefix + name, value, schema.get("$defs", {}))


def _numbers(key: str, value: Mapping[str, Any], defs: Mapping[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    if "$ref" in value:
        value = defs[value["$ref"].rpartition("/")[2]]
    if value.get("type") in ("integer", "number") and "enum" not in value:  # a choice of a few numbers has no range
        yield key, dict(value)
    for one in value.get("anyOf", ()):
        yield from _numbers(key, one, defs)
    for name, child in value.get("properties", {}).items():
        yield from _numbers(f"{key}.{name}", child, defs)


WHOLE = {key: one for key, one in numbers() if one["type"] == "integer"}
REAL = {key: one for key, one in numbers() if one["type"] == "number"}


def test_every_whole_number_has_bounds() -> None:
    assert len(WHOLE) > 35
    assert [key for key, one in WHOLE.items() if not {"minimum", "maximum"} <= one.keys()] == []
    assert WHOLE["seed"] == {**WHOLE["seed"], "minimum": 0, "maximum": LARGEST_SEED}
    assert [key for key, one in REAL.items() if not {"maximum", "exclusiveMaximum"} & one.keys()] == [
        "log.straggler_factor"
    ]


@pytest.mark.parametrize("key", WHOLE)
def test_a_number_beyond_its_bound_is_refused_in_one_line(key: str) -> None:
    for beyond in (WHOLE[key]["maximum"] + 1, 10**400):
        with pytest.raises(ConfigError) as caught:
            load_config(None, ["model.revive_dead={}", f"{key}={beyond}"])
        assert str(caught.value).startswith(f"the overrides: {key}: input should be less than or equal to")


class Stop(Hook):
    def after_step(self, run: Run, batch: Batch, terms: Mapping[str, Tensor]) -> None:
        run.stopped_by = "SIGTERM" if run.completed == 2 else None


@pytest.fixture(autouse=True)
def _leave() -> Iterator[None]:
    yield
    distributed.stop()


def weights(shards: Path, output: Path, *words: str) -> dict[str, Tensor]:
    """After two steps."""
    paths = [f"data.shards={shards}", f"output={output}"]
    run = prepare(load_config(None, [*TINY, *paths, "train.backend=torch", "model.revive_dead={}", *words]))
    try:
        assert not train(run, [SampleLog(), Metrics(), Checkpoints(), Stop()])
        return {name: value.clone() for name, value in run.model.state_dict().items()}
    finally:
        close(run)


def test_a_run_holds_the_largest_numbers(shards: Path, tmp_path: Path) -> None:
    largest = {key: one["maximum"] for key, one in WHOLE.items() if key not in EXPENSIVE | TOGETHER | NEEDS_MORE}
    assert {"seed", "train.steps", "train.micro_batch", "data.shuffle_window", "guard.spike_window"} <= largest.keys()
    found = weights(shards, tmp_path / "run", *(f"{key}={value}" for key, value in largest.items()))
    assert all(value.isfinite().all() for value in found.values())
    assert (tmp_path / "run" / "checkpoints" / "step-00000002").is_dir()


@pytest.mark.parametrize("seed", [1_764_358_826, 281_474_976, 2**32, LARGEST_SEED])
def test_a_seed_may_be_any_number_of_63_bits(shards: Path, tmp_path: Path, seed: int) -> None:
    one, again = (weights(shards, tmp_path / name, f"seed={seed}") for name in ("one", "again"))
    other = weights(shards, tmp_path / "other", f"seed={seed - 1}")
    assert all(one[name].equal(again[name]) for name in one)
    assert not all(one[name].equal(other[name]) for name in one)


def a_step(seed: int) -> Step:
    step = Step.__new__(Step)
    step.config = load_config(None, [f"seed={seed}"])
    return step


@given(st.integers(0, 281_000_000), st.integers(0, 10**6))
def test_the_numbers_of_smaller_seeds_are_what_they_were(seed: int, step: int) -> None:
    assert a_step(seed)._number(step) == (seed * 1_000_003 + step) * 65_537


@given(st.integers(0, LARGEST_SEED), st.integers(0, MAX_STEPS))
def test_torch_takes_the_numbers_of_all_seeds(seed: int, step: int) -> None:
    torch.Generator().manual_seed(a_step(seed)._number(step))


def test_the_last_step_of_the_longest_run_has_a_batch() -> None:
    batch = 2**20
    plan = Plan([batch + 7], LARGEST_SEED, batch)
    ids, epochs = plan.batch(MAX_STEPS - 1, rank=3, world=2**18)
    assert np.all((ids >= 0) & (ids < batch + 7))
    assert epochs.tolist() == [((MAX_STEPS - 1) * batch + 3 + 2**18 * i) // (batch + 7) for i in range(4)]


def test_epochs_that_are_too_many_steps_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"^train.epochs=1e\+09 of 48 samples are 6000000000 steps, more than"):
        derive_sizes(load_config(None, ["train.epochs=1e9", "train.global_batch=8"]), 48, 1)
