"""Configurations and checkpoints of an older form load, and each change is one logged line."""

import hashlib
import json
import logging
import tarfile
from pathlib import Path

import pytest
import torch
import yaml

from fra_dist.config import load_config, migrations, parse_config
from fra_dist.config.migrations import gone, migrate, renamed
from fra_dist.errors import ConfigError
from fra_dist.train.checkpoints.reading import MANIFEST, STATE, manifest_check
from fra_dist.train.checkpoints.restoring import load_model
from fra_dist.train.run_dir.folder import RunFolder

KEPT = Path(__file__).parents[2] / "golden" / "v0_1_0" / "run_and_shards.tar.xz"
STEPS = (
    renamed("0.3.0", "optim.lars_coefficient", "optim.trust"),
    renamed("0.3.0", "supervision", "guard"),
    gone("0.4.0", "train.magic", "magic is always on; train.compile makes it faster"),
)
OLD = {"optim": {"lars_coefficient": 0.002, "momentum": 0.8}, "supervision": {"patience": 7}, "train": {"magic": True}}
NEW = {"optim": {"trust": 0.002, "momentum": 0.8}, "guard": {"patience": 7}, "train": {}}


@pytest.fixture
def older(monkeypatch):
    """As if this version had renamed and removed keys."""
    monkeypatch.setattr(migrations, "STEPS", STEPS)


def test_steps_turn_an_old_tree_into_a_new_one_and_leave_a_new_one_alone():
    before = json.dumps(OLD)
    assert migrate(OLD, "old", STEPS) == NEW
    assert json.dumps(OLD) == before, "the tree that was given is left as it is"
    assert migrate(NEW, "new", STEPS) == NEW


def test_each_change_is_one_line_that_names_the_new_key(tmp_path, older, caplog):
    path = tmp_path / "old.yaml"
    path.write_text(yaml.safe_dump(OLD))
    with caplog.at_level(logging.WARNING):
        config = load_config(path, ["optim.momentum=0.7"])
        load_config(path)
    assert (config.optim.trust, config.optim.momentum, config.guard.patience) == (0.002, 0.7, 7)
    lines = [record.getMessage() for record in caplog.records]
    assert [line.removeprefix(f"{path}: ") for line in lines] == [
        "optim.lars_coefficient is now optim.trust (since version 0.3.0)",
        "supervision is now guard (since version 0.3.0)",
        "train.magic is gone: magic is always on; train.compile makes it faster (since version 0.4.0)",
    ], "and said once, however often the file is read"


def test_an_old_key_as_an_override_works_too(older):
    assert load_config(None, ["optim.lars_coefficient=0.5"]).optim.trust == 0.5
    assert parse_config({"supervision": {"patience": 3}}).guard.patience == 3


def test_of_an_old_and_a_new_key_the_new_one_counts(older, caplog):
    tree = {"optim": {"lars_coefficient": 0.5, "trust": 0.25}}
    with caplog.at_level(logging.WARNING):
        assert parse_config(tree, where="both").optim.trust == 0.25
    assert "both: optim.lars_coefficient is now optim.trust, which is given as well" in caplog.text


@pytest.mark.parametrize("tree", [{"optim": 3}, {"optim": None}, {"train": [1]}, {"supervision": 4}])
def test_steps_leave_what_is_no_section_for_the_schema_to_refuse(tree, older):
    with pytest.raises(ConfigError, match=r"optim|train|guard"):
        parse_config(tree)


def test_a_key_that_no_step_knows_is_still_refused(older):
    with pytest.raises(ConfigError, match=r"unknown key train\.spell"):
        parse_config({"train": {"spell": 1, "magic": True}})


@pytest.fixture
def older_run(tmp_path):
    """The kept run folder of version 0.1.0, its settings rewritten to the older form."""
    with tarfile.open(KEPT) as archive:
        archive.extractall(tmp_path, filter="data")
    run = tmp_path / "run"
    settings = run / "config.yaml"
    settings.write_text(yaml.safe_dump(to_older(yaml.safe_load(settings.read_text()))))
    checkpoint = run / "checkpoints" / "step-00000004"
    state = json.loads((checkpoint / STATE).read_text())
    state["config"] = to_older(state["config"])
    (checkpoint / STATE).write_text(json.dumps(state))
    manifest = json.loads((checkpoint / MANIFEST).read_text())
    content = (checkpoint / STATE).read_bytes()
    manifest["files"][STATE] = {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    manifest["check"] = manifest_check(manifest)
    (checkpoint / MANIFEST).write_text(json.dumps(manifest))
    return run


def to_older(tree):
    tree["optim"]["lars_coefficient"] = tree["optim"].pop("trust")
    tree["supervision"] = tree.pop("guard")
    tree["train"]["magic"] = True
    return tree


def test_a_checkpoint_and_a_run_folder_of_the_older_form_are_used(older_run, older):
    _, config, info = load_model(older_run)
    assert (info["step"], config.optim.trust, config.guard.patience) == (4, 0.001, 5)
    folder = RunFolder(older_run)
    folder.open(config, torch.device("cpu"))  # refuses a run that was begun with other settings
    folder.close()
    assert "lars_coefficient" not in (older_run / "config.yaml").read_text(), "the run is of today's form from now on"
    assert load_config(older_run / "config.yaml") == config


def test_without_the_steps_it_would_be_refused(older_run):
    with pytest.raises(Exception, match="unknown key"):
        load_model(older_run)
