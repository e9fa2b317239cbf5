"""How the ways of convolutions are chosen, kept and taken up again."""

import json
from pathlib import Path

import pytest
import torch
from torch import nn

from fra_dist.config import Config, load_config
from fra_dist.models.convolution import Layer, PatchConv2d, Ways, layers_of, use_patches
from fra_dist.models.fra import FRA
from fra_dist.train import convolution_choice
from fra_dist.train.convolution_choice import (
    KIND,
    MEMORY,
    choose,
    convolutions_of_run,
    images_of,
    measure,
    read_cache,
)
from fra_dist.train.cpu_measurements import cache_path, machine
from tests.helpers.tiny import TINY

CPU = torch.device("cpu")
LAYER = Layer(64, 64, 6, 6, (3, 3), (1, 1), (1, 1), torch.float32)
ALL = Ways(True, True, True)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("FRA_DIST_CACHE", str(tmp_path / "cache"))
    return cache_path(KIND)


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The layers that were measured; each of them finds a product in the forward pass alone."""
    names: list[str] = []

    def noted(layer: Layer, images: int) -> Ways:
        names.append(layer.name)
        measure(layer, images)
        return Ways(forward=True)

    monkeypatch.setattr(convolution_choice, "measure", noted)
    return names


def start(*words: str) -> tuple[FRA, Config]:
    config = load_config(None, [*TINY, *words])
    return FRA(config.model).train(), config


def ways_of(model: FRA) -> set[tuple[bool, ...]]:
    """The ways of the layers at the size of the runs here, of both networks."""
    found = set()
    for backbone in (model.online.backbone, model.target.backbone):
        for layer in layers_of(backbone, [32], torch.float32):
            parts = [part for part in backbone.modules() if isinstance(part, PatchConv2d)]
            found |= {tuple(part.chosen.get(layer.name, ())) for part in parts if part.chosen is not None}
    return found


def test_measured_once_and_then_known(cache: Path, measured: list[str]) -> None:
    first, said = choose([LAYER], 8)
    assert measured == [LAYER.name]
    assert "1 measured now" in said
    assert machine() in said
    assert choose([LAYER], 8)[0] == first == {LAYER.name: Ways(forward=True)}
    assert read_cache(cache) == {f"{LAYER.name}_n8": Ways(forward=True)}
    choose([LAYER], 5)  # so few images are another measurement
    assert len(measured) == 2
    assert images_of(LAYER, 500) == 29  # 1024 places


def test_a_real_measurement_changes_no_random_number() -> None:
    state = torch.get_rng_state()
    turned = measure(LAYER, 2)
    assert isinstance(turned, Ways)
    assert torch.equal(torch.get_rng_state(), state)
    strided = LAYER._replace(stride=(2, 2))
    assert not strided.can_turn
    assert measure(strided, 2).input is False


@pytest.mark.parametrize("content", ["", "{", "[]", '{"layers": []}', '{"layers": {"a": ["sideways"]}}'])
def test_a_damaged_cache_is_measured_again(cache: Path, measured: list[str], content: str) -> None:
    cache.parent.mkdir(parents=True)
    cache.write_text(content)
    choose([LAYER], 8)
    choose([LAYER], 8)
    assert measured == [LAYER.name]


def test_a_cache_that_cannot_be_read_is_said_and_left_alone(cache: Path, measured: list[str]) -> None:
    cache.mkdir(parents=True)
    found, said = choose([LAYER], 8)
    assert found is None
    assert str(cache) in said
    assert measured == []
    assert cache.is_dir()


def test_what_cannot_be_kept_is_not_relied_on(cache: Path, measured: list[str]) -> None:
    cache.parent.parent.write_text("a file in place of the folder")
    found, said = choose([LAYER], 8)
    assert found is None
    assert "no measurement can be kept in the cache" in said
    assert measured == []


def test_a_user_without_a_home(measured: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def homeless() -> Path:
        raise RuntimeError("Could not determine home directory.")

    for name in ("FRA_DIST_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(Path, "home", homeless)
    found, said = choose([LAYER], 8)
    assert found is None
    assert "Set HOME or FRA_DIST_CACHE" in said


def test_who_measured_first_is_right_for_both(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def meanwhile(layer: Layer, images: int) -> Ways:
        cache.write_text(json.dumps({"layers": {f"{layer.name}_n{images}": ["weight"]}}))
        return ALL

    monkeypatch.setattr(convolution_choice, "measure", meanwhile)
    assert choose([LAYER], 8)[0] == {LAYER.name: Ways(weight=True)}


def test_a_run_keeps_its_choice_whatever_the_cache_says(cache: Path, measured: list[str]) -> None:
    model, config = start()
    memory, said = convolutions_of_run(model, config, CPU, 8, None)
    assert said is not None
    assert ways_of(model) == {(True, False, False)}
    count = len(measured)
    cache.unlink()
    later, _ = start()
    assert convolutions_of_run(later, config, CPU, 8, json.loads(json.dumps(memory))) == (memory, None)
    assert ways_of(later) == {(True, False, False)}
    assert len(measured) == count
    assert not cache.exists()


def test_a_run_of_another_machine_keeps_its_choice_and_says_so() -> None:
    model, config = start()
    layers = {layer.name: ["input", "weight"] for layer in _layers(model)}
    memory = {MEMORY: {"machine": "another", "layers": layers}}
    kept, said = convolutions_of_run(model, config, CPU, 8, memory)
    assert kept == memory
    assert said is not None
    assert "measured on another, where the run began" in said
    assert ways_of(model) == {(False, True, True)}


def test_checkpoints_without_a_choice_go_on_as_they_began(measured: list[str]) -> None:
    model, config = start()
    assert convolutions_of_run(model, config, CPU, 8, {"guard": {}}) == ({}, None)
    parts = [part for part in model.online.backbone.modules() if isinstance(part, PatchConv2d)]
    assert parts
    assert all(part.chosen is None for part in parts)
    assert measured == []


def test_deterministic_runs_measure_nothing(measured: list[str]) -> None:
    model, config = start("train.deterministic=true")
    memory, said = convolutions_of_run(model, config, CPU, 8, None)
    assert (memory[MEMORY]["layers"], said, measured) == ({}, None, [])
    assert ways_of(model) == {()}


@pytest.mark.parametrize("words", [["train.channels_last=false"], ["train.compile=true"]])
def test_where_there_is_no_choice_the_record_is_kept_for_later(measured: list[str], words: list[str]) -> None:
    model, config = start(*words)
    assert convolutions_of_run(model, config, CPU, 8, None) == ({}, None)
    memory = {MEMORY: {"machine": "another", "layers": {}}}
    assert convolutions_of_run(model, config, CPU, 8, {**memory, "guard": {}}) == (memory, None)
    assert not any(type(part) is PatchConv2d for part in model.modules())
    assert measured == []


def _layers(model: FRA) -> list[Layer]:
    use_patches(model.online.backbone)
    backbone: nn.Module = model.online.backbone
    return layers_of(backbone, [32], torch.float32)
