import json
import os

import pytest
import torch

from fra_dist.config import load_config
from fra_dist.errors import CheckpointError
from fra_dist.models.fra import FRA
from fra_dist.train.checkpoints import reading as ck
from fra_dist.train.checkpoints.restoring import load_model, optimizer_tensors, restore_model, restore_optimizer
from fra_dist.train.checkpoints.writing import Contents, save_checkpoint, set_aside, write_folder

SMALL = [
    "model.backbone=tiny", "model.regions=3", "model.width=16", "model.hidden=16", "model.decoder.layers=1",
    "model.decoder.heads=2", "model.decoder.feedforward=16", "data.image_size=32",
]  # fmt: skip


@pytest.fixture(scope="module")
def config():
    return load_config(None, SMALL)


@pytest.fixture
def saved(config, tmp_path):
    torch.manual_seed(0)
    model = FRA(config.model)
    for step in (5, 10, 15):
        model.online.prototypes.fill_(step)
        metrics = {"step": step, "loss/total": 1.0 / step, "lr": float("nan")}
        contents = Contents(step, config, model.state_dict(), {}, {"torch": "x"}, metrics, {"guard": [step]})
        save_checkpoint(tmp_path / "checkpoints", contents)
    return tmp_path


def test_round_trip_is_exact(config, saved):
    model, read, info = load_model(saved)
    assert read == config
    assert info["step"] == 15
    assert not model.training
    torch.manual_seed(0)
    for name, value in FRA(config.model).state_dict().items():
        if name != "online.prototypes":
            assert torch.equal(value, model.state_dict()[name]), name
    assert bool((model.online.prototypes == 15).all())


def test_what_hooks_keep_comes_back(saved):
    found = ck.find_checkpoint(saved)
    assert found.metrics == {"step": 15, "loss/total": 1.0 / 15}
    assert found.memory == {"guard": [15]}
    assert found.averaged == []


def test_each_way_to_name_a_checkpoint(saved):
    folder = saved / "checkpoints"
    steps = [ck.find_checkpoint(p).step for p in (saved, folder, folder / "step-00000010")]
    assert steps == [15, 15, 10]
    assert ck.find_checkpoint(folder / "step-00000010" / "model.safetensors").step == 10


def _truncate(path):
    path.write_bytes(path.read_bytes()[:-7])


def _empty(path):
    path.write_bytes(b"")


def _flip(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(bytes(data))


def _remove(path):
    path.unlink()


def _become_a_folder(path):
    path.unlink()
    path.mkdir()


def _dangle(path):
    path.unlink()
    path.symlink_to("nowhere")


def assert_the_one_before_is_used(saved, count=1):
    with pytest.raises(CheckpointError) as caught:
        ck.open_checkpoint(saved / "checkpoints" / "step-00000015")
    assert "\n" not in str(caught.value)
    assert "step-00000015" in str(caught.value)
    found, notes = ck.newest_good(saved / "checkpoints")
    assert found is not None
    assert found.step == 10
    assert len(notes) == count


@pytest.mark.parametrize("damage", [_truncate, _empty, _flip, _remove, _become_a_folder, _dangle])
@pytest.mark.parametrize("part", ["model.safetensors", "optimizer.safetensors", "state.json", "manifest.json"])
def test_damage_is_found_and_the_one_before_is_used(saved, damage, part):
    damage(saved / "checkpoints" / "step-00000015" / part)
    assert_the_one_before_is_used(saved)


def test_every_single_flipped_bit_of_the_manifest_is_damage_and_not_another_format(saved):
    path = saved / "checkpoints" / "step-00000015" / "manifest.json"
    good = path.read_bytes()
    for bit in range(0, len(good) * 8, 5):
        data = bytearray(good)
        data[bit // 8] ^= 1 << bit % 8
        path.write_bytes(bytes(data))
        try:
            manifest = ck.read_manifest(path.parent)
        except ck.FormatError as error:
            raise AssertionError(f"bit {bit} looks like another format") from error
        except CheckpointError:
            continue
        assert manifest == json.loads(good)  # white space became other white space


@pytest.mark.parametrize("text", ["", "[]", "not json", '{"format": 1}', "\x00\x01"])
def test_a_manifest_that_is_none(saved, text):
    (saved / "checkpoints" / "step-00000015" / "manifest.json").write_text(text)
    assert_the_one_before_is_used(saved)


def test_a_folder_under_the_name_of_another_step(saved):
    folder = saved / "checkpoints"
    (folder / "step-00000005").rename(folder / "step-00000020")
    found, notes = ck.newest_good(folder)
    assert found is not None
    assert found.step == 15
    assert "holds step 5" in notes[0]


def test_what_is_not_ours_is_no_checkpoint(saved):
    folder = saved / "checkpoints"
    (folder / "step-latest").symlink_to("step-00000005")
    (folder / "step-00000099").write_text("a file")
    (folder / "notes").mkdir()
    assert [path.name[-2:] for path in ck.list_checkpoints(folder)] == ["05", "10", "15"]
    (folder / "step-00000042").mkdir()
    found, notes = ck.newest_good(folder)
    assert found is not None
    assert found.step == 15
    assert len(notes) == 1


def test_a_linked_checkpoint_counts(saved, tmp_path):
    other = tmp_path / "elsewhere"
    (saved / "checkpoints" / "step-00000015").rename(other)
    (saved / "checkpoints" / "step-00000015").symlink_to(other)
    assert ck.find_checkpoint(saved).step == 15


def other_format(path, number):
    manifest = {**json.loads((path / "manifest.json").read_text()), "format": number}
    manifest["check"] = ck.manifest_check(manifest)
    (path / "manifest.json").write_text(json.dumps(manifest))


def test_another_format_is_refused_and_not_passed_over(saved):
    other_format(saved / "checkpoints" / "step-00000015", 99)
    with pytest.raises(ck.FormatError, match=r"format 99.*reads format 1.*--from"):
        ck.newest_good(saved / "checkpoints")
    with pytest.raises(ck.FormatError):
        load_model(saved)
    assert ck.find_checkpoint(saved / "checkpoints" / "step-00000010").step == 10


def test_settings_that_this_version_does_not_know_are_another_versions(config, saved):
    state = json.loads((saved / "checkpoints" / "step-00000015" / "state.json").read_text())
    state["config"]["model"]["sparkle"] = 3

    class Newer(Contents):
        def state(self):
            return {**state, "step": self.step}

    save_checkpoint(saved / "checkpoints", Newer(20, config, {}, {}, {}))
    with pytest.raises(ck.FormatError, match=r"model\.sparkle.*another version"):
        ck.newest_good(saved / "checkpoints")


def test_a_checkpoint_without_settings_that_came_later_reads_with_their_defaults(config, saved):
    older = config.model_dump(mode="json", by_alias=True)
    del older["checkpoint"]["asynchronous"]

    class Older(Contents):
        def state(self):
            return {"step": self.step, "config": older, "versions": {}}

    save_checkpoint(saved / "checkpoints", Older(20, config, {}, {}, {}))
    assert ck.find_checkpoint(saved).config == config


def test_the_newest_before_a_step(saved):
    found, _ = ck.newest_good(saved / "checkpoints", before=15)
    assert found is not None
    assert found.step == 10
    assert ck.newest_good(saved / "checkpoints", before=5) == (None, [])


def test_setting_aside_leaves_the_older_ones_and_at_most_two_aside(config, saved):
    folder = saved / "checkpoints"
    assert [path.name for path in set_aside(folder, 10)] == ["aside-00000015"]
    assert ck.find_checkpoint(saved).step == 10
    for step in (15, 20, 25):
        save_checkpoint(folder, Contents(step, config, {}, {}, {}))
    set_aside(folder, 10)
    assert sorted(p.name for p in folder.glob("aside-*")) == ["aside-00000015", "aside-00000020", "aside-00000025"]
    save_checkpoint(folder, Contents(11, config, {}, {}, {}))
    set_aside(folder, 10)
    assert len(list(folder.glob("aside-*"))) == 2
    assert (folder / "aside-00000011").is_dir()


@pytest.mark.parametrize("change", ["model.regions=4", "model.width=8", "model.decoder.layers=2"])
def test_another_architecture_is_refused_with_the_difference(saved, change):
    other = FRA(load_config(None, [*SMALL, change]).model)
    with pytest.raises(CheckpointError, match="another architecture"):
        restore_model(other, ck.find_checkpoint(saved))


def test_nothing_there(tmp_path):
    with pytest.raises(CheckpointError, match="no such file"):
        load_model(tmp_path / "none")
    with pytest.raises(CheckpointError, match="no usable checkpoint"):
        load_model(tmp_path)


def test_optimiser_state_by_name():
    model = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.Linear(2, 1))
    names = {p: n for n, p in model.named_parameters()}
    optimizer = torch.optim.AdamW(model.parameters())
    model(torch.ones(4, 3)).sum().backward()
    optimizer.step()
    saved = optimizer_tensors(optimizer, names)
    fresh = torch.optim.AdamW(model.parameters())
    restore_optimizer(fresh, names, saved)
    for parameter in model.parameters():
        for key, value in optimizer.state[parameter].items():
            assert torch.equal(fresh.state[parameter][key], value), key
    with pytest.raises(CheckpointError, match="ghost"):
        restore_optimizer(fresh, names, {"ghost/exp_avg": torch.zeros(1)})


def test_folders_that_others_left_are_neither_in_the_way_nor_taken_for_ours(config, tmp_path):
    """With the names that earlier versions gave, a link and a file among them."""
    contents = Contents(7, config, {"x": torch.ones(2)}, {}, {})
    foreign = [tmp_path / f".partial-{name}" for name in ("step-00000007", f"step-00000007-{os.getpid()}", "mean")]
    for path in foreign:
        path.mkdir()
        (path / "theirs").touch()
    for _ in range(2):  # the second takes the place of the first, which is deleted
        write_folder(contents, tmp_path / "step-00000007")
    assert all((path / "theirs").exists() for path in foreign)
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / ".partial-link").symlink_to(tmp_path / "elsewhere")
    (tmp_path / ".partial-file").touch()
    assert ck.open_checkpoint(save_checkpoint(tmp_path, contents)).step == 7
    assert (tmp_path / "elsewhere").is_dir()
    left = {".partial-link", ".partial-file", "elsewhere", "step-00000007"}
    assert {path.name for path in tmp_path.iterdir()} == left, "what a killed process left is gone"


def test_a_write_that_fails_leaves_nothing_of_its_own(config, tmp_path):
    (tmp_path / ".partial-theirs").mkdir()

    def refuse():
        raise OSError(5, "Input/output error")

    with pytest.raises(OSError, match="Input/output"):
        write_folder(Contents(7, config, {}, {}, {}), tmp_path / "step-00000007", refuse)
    assert [path.name for path in tmp_path.iterdir()] == [".partial-theirs"]
