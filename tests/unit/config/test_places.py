"""`~` and variables in the paths of a configuration."""

import pytest

from fra_dist.config import load_config, parse_config
from fra_dist.errors import ConfigError


@pytest.fixture(autouse=True)
def home(monkeypatch):
    monkeypatch.setenv("HOME", "/home/someone")
    monkeypatch.setenv("SCRATCH", "/scratch")
    monkeypatch.delenv("UNSET", raising=False)


def test_every_path_is_expanded_in_files_and_overrides(tmp_path):
    path = tmp_path / "c.yaml"
    path.write_text(
        "name: ~/x\noutput: ~/runs/$SCRATCH-1\ndata: {shards: '${SCRATCH}/s'}\n"
        "probe: {sets: [{data: ~/faces, name: $UNSET}]}\n"
    )
    config = load_config(path, ["data.cache=~/cache", "log.mlflow=~/store"])
    assert config.output == "/home/someone/runs//scratch-1"
    assert (config.data.shards, config.data.cache) == ("/scratch/s", "/home/someone/cache")
    assert config.log.mlflow == "/home/someone/store"
    assert config.probe.sets[0].data == "/home/someone/faces"
    assert (config.name, config.probe.sets[0].name) == ("~/x", "$UNSET"), "no paths"
    assert load_config(None, ["data.shards=~/a,~/b*2"]).data.shards == "/home/someone/a,/home/someone/b*2"
    assert load_config(None, ["data.shards=s3://bucket/$SCRATCH/~x"]).data.shards == "s3://bucket//scratch/~x"


def test_sets_of_shards_may_be_a_list(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "c.yaml").write_text("data: {shards: [~/a, 'b/train-{0..3}.tar', $SCRATCH/c*2]}\n")
    whole = "/home/someone/a,b/train-{0..3}.tar,/scratch/c*2"
    assert load_config("c.yaml", []).data.shards == whole
    assert load_config(None, ["data.shards=[~/a, 'b/train-{0..3}.tar', $SCRATCH/c*2]"]).data.shards == whole
    (tmp_path / "[a, b]").mkdir()
    assert load_config(None, ["data.shards=[a, b]"]).data.shards == "[a, b]", "a folder of that name"
    with pytest.raises(ConfigError, match=r"data\.shards"):
        load_config(None, ["data={shards: [a, 3]}"])


def test_what_cannot_be_expanded_is_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"output=\$UNSET/x: \$UNSET is not set"):
        load_config(None, ["output=$UNSET/x"])
    with pytest.raises(ConfigError, match=r"probe\.sets\[0\]\.data"):
        load_config(None, ["probe.sets=[{data: '${UNSET}'}]"])
    with pytest.raises(ConfigError, match="no user of that name"):
        load_config(None, ["output=~nobody-of-this-name/x"])


def test_settings_of_a_checkpoint_stay_as_they_are():
    assert parse_config({"output": "$UNSET/x", "data": {"shards": "~/s"}}).output == "$UNSET/x"
