import json

import pytest
import torch

from fra_dist.config import load_config
from fra_dist.errors import CheckpointError
from fra_dist.models.fra import FRA
from fra_dist.train import checkpoint as ck

SMALL = [
    "model.backbone=tiny", "model.regions=3", "model.width=16", "model.hidden=16", "model.decoder.layers=1",
    "model.decoder.heads=2", "model.decoder.feedforward=16", "data.image_size=32",
]  # fmt: skip


@pytest.fixture
def config():
    return load_config(None, SMALL)


@pytest.fixture
def saved(config, tmp_path):
    torch.manual_seed(0)
    model = FRA(config.model)
    for step in (5, 10, 15):
        model.online.prototypes.fill_(step)
        ck.save_checkpoint(tmp_path / "checkpoints", step, config, model.state_dict(), {}, {"torch": "x"}, keep_last=2)
    return tmp_path


def test_round_trip_is_exact(config, saved):
    model, read, info = ck.load_model(saved)
    assert read == config
    assert info["step"] == 15
    assert not model.training
    torch.manual_seed(0)
    for name, value in FRA(config.model).state_dict().items():
        if name != "online.prototypes":
            assert torch.equal(value, model.state_dict()[name]), name
    assert bool((model.online.prototypes == 15).all())


def test_only_the_last_are_kept_and_no_partial_is_left(saved):
    names = sorted(p.name for p in (saved / "checkpoints").iterdir())
    assert names == ["step-00000010", "step-00000015"]


def test_each_way_to_name_a_checkpoint(saved):
    folder = saved / "checkpoints"
    steps = [ck.find_checkpoint(p).step for p in (saved, folder, folder / "step-00000010")]
    assert steps == [15, 15, 10]
    assert ck.find_checkpoint(folder / "step-00000010" / "model.safetensors").step == 10


def _truncate(path):
    path.write_bytes(path.read_bytes()[:-7])


def _flip(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(bytes(data))


def _remove(path):
    path.unlink()


@pytest.mark.parametrize("damage", [_truncate, _flip, _remove])
@pytest.mark.parametrize("part", ["model.safetensors", "optimizer.safetensors", "state.json", "manifest.json"])
def test_damage_is_found_and_the_one_before_is_used(saved, damage, part):
    newest = saved / "checkpoints" / "step-00000015"
    damage(newest / part)
    if part == "manifest.json" and damage is _flip:
        # a changed bit inside a number or a name: still refused, whatever it hits
        (newest / part).write_text((newest / part).read_text().replace('"format": 1', '"format": 9'))
    with pytest.raises(CheckpointError) as caught:
        ck.open_checkpoint(newest)
    assert "\n" not in str(caught.value)
    found, notes = ck.newest_good(saved / "checkpoints")
    assert found is not None
    assert found.step == 10
    assert len(notes) == 1


def test_format_of_another_version(saved):
    path = saved / "checkpoints" / "step-00000015" / "manifest.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "format": 99}))
    with pytest.raises(CheckpointError, match="format 99"):
        ck.open_checkpoint(path.parent)


@pytest.mark.parametrize("change", ["model.regions=4", "model.width=8", "model.decoder.layers=2"])
def test_another_architecture_is_refused_with_the_difference(saved, change):
    other = FRA(load_config(None, [*SMALL, change]).model)
    with pytest.raises(CheckpointError, match="another architecture"):
        ck.restore_model(other, ck.find_checkpoint(saved))


def test_nothing_there(tmp_path):
    with pytest.raises(CheckpointError, match="no such file"):
        ck.load_model(tmp_path / "none")
    with pytest.raises(CheckpointError, match="no usable checkpoint"):
        ck.load_model(tmp_path)


def test_a_disk_that_refuses_gives_one_line_and_leaves_the_old(config, saved, monkeypatch):
    def full(*args, **kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(ck, "save_file", full)
    with pytest.raises(CheckpointError, match="No space left"):
        ck.save_checkpoint(saved / "checkpoints", 20, config, {}, {}, {}, keep_last=2)
    assert ck.find_checkpoint(saved).step == 15


def test_optimiser_state_by_name():
    model = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.Linear(2, 1))
    names = {p: n for n, p in model.named_parameters()}
    optimizer = torch.optim.AdamW(model.parameters())
    model(torch.ones(4, 3)).sum().backward()
    optimizer.step()
    saved = ck.optimizer_tensors(optimizer, names)
    fresh = torch.optim.AdamW(model.parameters())
    ck.restore_optimizer(fresh, names, saved)
    for parameter in model.parameters():
        for key, value in optimizer.state[parameter].items():
            assert torch.equal(fresh.state[parameter][key], value), key
    with pytest.raises(CheckpointError, match="ghost"):
        ck.restore_optimizer(fresh, names, {"ghost/exp_avg": torch.zeros(1)})
