import json
import shutil

import pytest
import torch

from fra_dist.config import load_config
from fra_dist.errors import AccessError, CheckpointError, ConfigError, LaunchError
from fra_dist.json_lines import read_rows
from fra_dist.train.checkpoints.reading import FormatError
from fra_dist.train.checkpoints.writing import Contents, save_checkpoint
from fra_dist.train.resume import NEWEST, Origin, choose_checkpoint
from fra_dist.train.run_dir.folder import RunFolder, harmful_differences
from tests.unit.train.test_checkpoint import SMALL, _flip, other_format

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def config():
    return load_config(None, SMALL)


@pytest.fixture
def run(config, tmp_path):
    """A run folder that an earlier attempt left: checkpoints of steps 5, 10, 15 and rows up to 17."""
    folder = RunFolder(tmp_path / "run")
    folder.open(config, CPU)
    for step in (5, 10, 15):
        save_checkpoint(folder.checkpoints, Contents(step, config, {}, {}, {}))
    for step in range(1, 18):
        folder.log({"step": step})
    folder.close()
    return folder.path


def begin(path, config, origin=NEWEST, force=False):
    folder = RunFolder(path)
    folder.open(config, CPU, force, origin.fresh)
    try:
        return choose_checkpoint(folder, config, origin, force)
    finally:
        folder.close()


def last_step(run):
    return read_rows(run / "metrics.jsonl")[-1]["step"]


def names(run):
    return sorted(path.name for path in (run / "checkpoints").iterdir())


def told(run, event):
    return [row for row in read_rows(run / "history.jsonl") if row["event"] == event]


def damage(run, *steps):
    for step in steps:
        _flip(run / "checkpoints" / f"step-{step:08d}" / "state.json")


def test_the_newest(run, config):
    assert begin(run, config).step == 15
    assert last_step(run) == 15
    assert names(run) == ["step-00000005", "step-00000010", "step-00000015"]
    assert told(run, "resume")[-1]["checkpoint"] == "step-00000015"


def test_a_damaged_one_is_set_aside_so_that_it_never_counts_as_the_newest_again(run, config):
    damage(run, 15)
    assert begin(run, config).step == 10
    assert names(run) == ["aside-00000015", "step-00000005", "step-00000010"]
    assert any("damaged" in row["text"] for row in told(run, "notice"))
    assert last_step(run) == 10


def test_none_that_can_be_used_is_no_reason_to_begin_again(run, config):
    damage(run, 5, 10, 15)
    with pytest.raises(CheckpointError, match=r"none of its 3 checkpoints can be used .*--from.*--fresh") as caught:
        begin(run, config)
    assert "\n" not in str(caught.value)
    assert last_step(run) == 17
    assert len(names(run)) == 3


def test_the_only_one(run, config):
    for step in (5, 10):
        (run / "checkpoints" / f"step-{step:08d}").rename(run / f"elsewhere-{step}")
    damage(run, 15)
    with pytest.raises(CheckpointError, match="its only checkpoint cannot be used"):
        begin(run, config)


def nowhere(checkpoints):
    shutil.rmtree(checkpoints)
    checkpoints.symlink_to("/a/disk/that/is/not/mounted")


def empty(checkpoints):
    shutil.rmtree(checkpoints)
    checkpoints.mkdir()


def a_file(checkpoints):
    shutil.rmtree(checkpoints)
    checkpoints.write_text("")


def a_link_among_them(checkpoints):
    shutil.rmtree(checkpoints / "step-00000015")
    (checkpoints / "step-00000015").symlink_to("/a/disk/that/is/not/mounted")


@pytest.mark.parametrize(
    ("become", "refusal", "text"),
    [
        (nowhere, AccessError, "cannot read the folder .*checkpoints: No such file"),
        (a_file, AccessError, "cannot read the folder .*checkpoints: Not a directory"),
        (a_link_among_them, AccessError, "step-00000015 is a link to /a/disk/that/is/not/mounted, which is not there"),
        (empty, CheckpointError, "step 15 was saved, but .*checkpoints holds no checkpoint now; mount that disk"),
        (
            shutil.rmtree,
            CheckpointError,
            "step 15 was saved, but .*checkpoints holds no checkpoint now; mount that disk",
        ),
    ],
)
def test_checkpoints_that_are_gone_are_no_reason_to_begin_again(run, config, become, refusal, text):
    folder = RunFolder(run)
    folder.open(config, CPU)
    folder.note("checkpoint", step=15)
    folder.close()
    become(run / "checkpoints")
    with pytest.raises(refusal, match=text):
        begin(run, config)
    assert last_step(run) == 17
    if become in (empty, shutil.rmtree):
        folder.open(config, CPU, fresh=True)
        folder.close()  # killed between the fresh start and its first step
        assert begin(run, config) is None
        assert begin(run, config) is None  # a start at step 0, after which nothing was saved yet


def test_one_of_another_format_stops_the_run_and_loses_nothing(run, config):
    other_format(run / "checkpoints" / "step-00000015", 2)
    with pytest.raises(FormatError, match="format 2"):
        begin(run, config)
    assert len(names(run)) == 3
    assert begin(run, config, Origin(source=run / "checkpoints" / "step-00000010")).step == 10


def test_a_fresh_start_moves_the_old_away(run, config):
    damage(run, 15)
    assert begin(run, config, Origin(fresh=True)) is None
    assert not (run / "checkpoints").exists()
    assert not (run / "metrics.jsonl").exists()
    assert len(list((run / "former-1" / "checkpoints").iterdir())) == 3
    assert told(run, "start")
    save_checkpoint(run / "checkpoints", Contents(1, config, {}, {}, {}))
    begin(run, config, Origin(fresh=True))
    assert (run / "former-2" / "checkpoints" / "step-00000001").is_dir()


def test_a_fresh_start_may_have_another_configuration(run, config):
    other = load_config(None, [*SMALL, "seed=5"])
    with pytest.raises(ConfigError, match="seed: 0 -> 5"):
        begin(run, other)
    assert begin(run, other, Origin(fresh=True)) is None


def test_back_to_a_named_one(run, config):
    found = begin(run, config, Origin(source=run / "checkpoints" / "step-00000005"))
    assert found.step == 5
    assert last_step(run) == 5
    assert names(run) == ["aside-00000010", "aside-00000015", "step-00000005"]
    assert begin(run, config).step == 5


def test_from_another_run(run, config, tmp_path):
    found = begin(tmp_path / "second", config, Origin(source=run))
    assert found.step == 15
    assert told(tmp_path / "second", "resume")[0]["checkpoint"] == str(run / "checkpoints" / "step-00000015")


def test_from_another_run_with_another_configuration(run, config, tmp_path):
    other = load_config(None, [*SMALL, "model.regions=4", "log.every_steps=3"])
    with pytest.raises(ConfigError, match=r"model\.regions: 3 -> 4\. Give .* or --force") as caught:
        begin(tmp_path / "second", other, Origin(source=run))
    assert "log." not in str(caught.value)
    assert begin(tmp_path / "second", other, Origin(source=run), force=True).step == 15


def test_a_run_with_checkpoints_of_its_own_does_not_take_anothers(run, config, tmp_path):
    save_checkpoint(tmp_path / "second" / "checkpoints", Contents(3, config, {}, {}, {}))
    with pytest.raises(CheckpointError, match="has checkpoints of its own"):
        begin(tmp_path / "second", config, Origin(source=run))
    assert names(tmp_path / "second") == ["step-00000003"]


def test_a_mean_of_checkpoints_is_not_to_go_on_from(config, tmp_path):
    save_checkpoint(tmp_path, Contents(15, config, {}, {}, {}, averaged=(10, 15)))
    with pytest.raises(CheckpointError, match="mean of checkpoints"):
        begin(tmp_path / "run", config, Origin(source=tmp_path / "step-00000015"))


@pytest.mark.parametrize(
    "change",
    [
        "checkpoint.keep_last=9", "checkpoint.asynchronous=false", "checkpoint.keep_best=loss/total", "name=x",
        "log.every_steps=7", "data.threads=3", "data.prefetch=5", "data.cache=/x", "data.retries=2",
        "train.backend=torch",
    ],
)  # fmt: skip
def test_harmless_settings_are_noted(run, config, change):
    key, _, value = change.partition("=")
    assert begin(run, load_config(None, [*SMALL, change])).step == 15
    text = told(run, "notice")[0]["text"].lower()
    assert text.startswith(f"{key}: ")
    assert text.endswith(f"-> {value}")


def test_recorded_and_plain_steps_may_take_turns():
    plain, recorded = (
        load_config(None, ["train.backend=torch", f"train.cuda_graphs={on}"]) for on in ("false", "true")
    )
    assert harmful_differences(plain, recorded) == []


@pytest.mark.parametrize(
    "change",
    [
        "model.regions=4", "model.width=8", "data.image_size=48", "data.shuffle_window=7", "data.view2.blur=0.3",
        "train.global_batch=64", "train.micro_batch=8", "train.precision=bf16", "optim.lr=0.1", "loss.relation=0.2",
        "seed=1", "train.steps=99", "data.mean=[0.1,0.2,0.3]",
    ],
)  # fmt: skip
def test_harmful_settings_are_refused_with_the_difference(run, config, change):
    key = change.partition("=")[0]
    changed = load_config(None, [*SMALL, change, "log.every_steps=3"])
    with pytest.raises(ConfigError) as caught:
        begin(run, changed)
    text = str(caught.value)
    assert f"{key}: " in text
    assert "log." not in text
    assert "--force" in text
    assert "\n" not in text
    assert load_config(run / "config.yaml") == config
    assert begin(run, changed, force=True).step == 15


def test_a_folder_that_cannot_be_written_is_one_line(config):
    with pytest.raises(LaunchError, match="cannot write the run folder /proc/none"):
        RunFolder("/proc/none").open(config, CPU)


def test_rows_of_one_step_are_one_for_the_checkpoint(tmp_path):
    folder = RunFolder(tmp_path)
    folder.log({"step": 3, "loss/total": 1.5})
    folder.log({"step": 3, "probe/knn": 0.5})
    assert folder.latest == {"step": 3, "loss/total": 1.5, "probe/knn": 0.5}
    folder.log({"step": 4, "loss/total": 1.0})
    assert folder.latest == {"step": 4, "loss/total": 1.0}
    assert json.loads((tmp_path / "metrics.jsonl").read_text().splitlines()[1]) == {"step": 3, "probe/knn": 0.5}
