"""An unknown key is answered with the key of ours that its writer means."""

import pytest

from fra_dist.config import Config, load_config
from fra_dist.config.nearest_key import NO_KEYS, OTHER_WORDS, WHOLE_NAMES, keys_of, nearest_key
from fra_dist.errors import ConfigError

KNOWN = keys_of(Config)
SECTIONS = ("train", "optim", "model", "data", "trainer")


def said(override):
    with pytest.raises(ConfigError) as caught:
        load_config(None, [override])
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_the_words_lead_to_keys_that_exist_and_are_no_keys_themselves():
    assert set(OTHER_WORDS.values()) | set(WHOLE_NAMES.values()) <= set(KNOWN)
    leaves = {key.rpartition(".")[2] for key in KNOWN}
    # Keys of probe.sets, probe and log as well: where they stand in another section people mean something else.
    assert leaves & set(OTHER_WORDS) == {"dataset", "images", "project"}
    assert not leaves & set(NO_KEYS)
    assert not set(WHOLE_NAMES) & set(KNOWN)


@pytest.mark.parametrize(("word", "key"), OTHER_WORDS.items())
def test_each_word_of_another_trainer_in_any_section(word, key):
    for name in (word, *(f"{section}.{word}" for section in SECTIONS)):
        found = nearest_key(name)
        assert found is not None
        assert found == key or name in KNOWN, f"{name} -> {found} instead of {key}"
    assert f"did you mean {key}?" in said(f"{word}=1")


@pytest.mark.parametrize(
    ("wrong", "right"),
    [
        ("train.lr", "optim.lr"),
        ("train.batch_size", "train.global_batch"),
        ("data.path", "data.shards"),
        ("model.arch", "model.backbone"),
        ("optim.learning_rate", "optim.lr"),
        ("train.num_workers", "data.threads"),
        ("data.batch-size", "train.global_batch"),
        ("Train.LR", "optim.lr"),
        ("model.name", "model.backbone"),
        ("train.weight_decay", "optim.weight_decay"),
        ("train.seed", "seed"),
        ("optim.epochs", "train.epochs"),
        ("optm.lr", "optim.lr"),
        ("training.epochs", "train.epochs"),
        ("model.layers", "model.decoder.layers"),
        ("data.view2.gray", "data.view2.grey"),
        ("data.view2.gaussian_blur", "data.view2.blur"),
        ("train.gradient_accumulation_stepss", "train.micro_batch"),
        ("checkpoint.every_step", "checkpoint.every_steps"),
        ("train.watchdog_second", "train.watchdog_seconds"),
        ("loss.global_", "loss.global"),
    ],
)
def test_slips_and_wrong_sections(wrong, right):
    assert f"unknown key {wrong.split('.')[0]}" in said(f"{wrong}=1")
    assert f"did you mean {right}?" in said(f"{wrong}=1")


def test_words_that_are_no_keys_are_answered_too():
    assert "launcher" in said("train.nodes=2")
    assert "--from PATH" in said("resume_from_checkpoint=x")
    assert "fra-dist config" in said("foo.bar=1")


def test_a_section_of_another_trainer_is_answered_key_by_key(tmp_path):
    path = tmp_path / "theirs.yaml"
    path.write_text("optimizer: {lr: 0.1, wd: 0.01}\nmodel.width: 32\n")
    with pytest.raises(ConfigError) as caught:
        load_config(path)
    assert "unknown key optimizer (did you mean optim.lr?, did you mean optim.weight_decay?)" in str(caught.value)
    assert "write model as a section that holds width" in str(caught.value)
