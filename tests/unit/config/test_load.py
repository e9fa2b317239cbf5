import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from fra_dist.config import Config, dump_config, load_config, parse_config
from fra_dist.errors import ConfigError


def test_published_defaults():
    config = load_config(None)
    assert (config.model.backbone, config.model.regions, config.model.width, config.model.hidden) == (
        "resnet50",
        8,
        256,
        4096,
    )
    assert (config.loss.global_, config.loss.local, config.loss.decorrelation, config.loss.relation) == (
        0.5,
        0.5,
        0.02,
        0.1,
    )
    assert (config.loss.student_temperature, config.loss.teacher_temperature, config.loss.sinkhorn_rounds) == (
        0.1,
        0.04,
        3,
    )
    assert (config.optim.name, config.optim.lr, config.optim.lr_batch, config.optim.weight_decay) == (
        "lars",
        0.9,
        512,
        1e-6,
    )
    assert (config.optim.ema_momentum, config.train.epochs, config.optim.warmup_epochs) == (0.996, 50, 10)
    assert config.data.view1.blur == 1.0
    assert (config.data.view2.blur, config.data.view2.solarise) == (0.1, 0.2)


@pytest.mark.parametrize(
    ("override", "named"),
    [
        ("optm.lr=1", "did you mean optim"),
        ("train.globl_batch=2", "did you mean train.global_batch"),
        ("image_size=64", "did you mean data.image_size"),
        ("data.view1.flp=0.5", "did you mean data.view1.flip"),
        ("model.decoder.layer=3", "did you mean model.decoder.layers"),
        ("loss.globl=1", "did you mean loss.global"),
        ("train.global_batch=0", "train.global_batch"),
        ("train.global_batch=many", "train.global_batch"),
        ("train.global_batch=2.5", "train.global_batch"),
        ("model.regions=1", "model.regions"),
        ("data.image_size=8", "data.image_size"),
        ("optim.lr=.nan", "optim.lr"),
        ("data.mean=[1,2]", "data.mean"),
        ("data.view1.crop_scale=[0.9,0.1]", "crop_scale"),
        ("model.decoder=null", "loss.local=0"),
        ("model.width=100", "multiple of model.decoder.heads"),
        ("optim", "section.key=value"),
        ("optim.lr.x=1", "optim"),
    ],
)
def test_bad_override_is_one_line_that_names_the_key(override, named):
    with pytest.raises(ConfigError) as caught:
        load_config(None, [override])
    assert named in str(caught.value)
    assert "\n" not in str(caught.value)


def test_numbers_without_a_dot_are_numbers():
    assert load_config(None, ["optim.lr=1e-3"]).optim.lr == 1e-3


@given(st.floats(1e-8, 10), st.integers(2, 4096), st.booleans())
def test_dump_reads_back_equal(lr, batch, centre):
    config = load_config(
        None, [f"optim.lr={lr!r}", f"train.global_batch={batch}", f"model.decoder.centre_queries={centre}"]
    )
    assert parse_config(yaml.safe_load(dump_config(config))) == config


@pytest.mark.parametrize("text", ["- a\n- b\n", "a: [1,\n", "\x00", "data: 3\n"])
def test_bad_file(tmp_path, text):
    path = tmp_path / "bad.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=r"bad\.yaml"):
        load_config(path)


def test_missing_file(tmp_path):
    with pytest.raises(ConfigError, match="cannot read"):
        load_config(tmp_path / "none.yaml")


def test_frozen():
    with pytest.raises(Exception, match="frozen"):
        Config().seed = 3


def test_a_folder_in_place_of_a_configuration_is_told_where_it_goes(tmp_path):
    photos, run = tmp_path / "photos", tmp_path / "run"
    photos.mkdir()
    run.mkdir()
    (run / "config.yaml").write_text("seed: 1")
    with pytest.raises(ConfigError, match=r"is a folder, .*: photos are given as data\.photos=.*photos$"):
        load_config(photos)
    with pytest.raises(ConfigError, match=r"that of this run is .*run/config\.yaml$"):
        load_config(run)
    with pytest.raises(ConfigError, match=r"section\.key=value: photos are given as data\.photos=.*, shards as data\."):
        load_config(None, [str(photos)])
