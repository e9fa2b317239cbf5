"""What `fra-dist config` and docs/configuration.md say of the keys."""

from pathlib import Path

import pytest

from fra_dist.config import Config, LossConfig
from fra_dist.config.key_reference import all_keys, as_markdown, as_text, find_keys
from fra_dist.config.nearest_key import keys_of
from fra_dist.errors import ConfigError

PAGE = Path(__file__).parents[3] / "docs" / "configuration.md"
KEYS = all_keys()


@pytest.mark.parametrize("key", KEYS, ids=[key.name for key in KEYS])
def test_every_key_is_described_in_a_sentence(key):
    assert len(key.meaning) > 15, f"{key.name} needs a docstring under its field: meaning and unit"
    assert key.meaning[0].isupper() or key.meaning[0].isdigit(), key.meaning
    assert key.meaning.endswith("."), f"{key.meaning} is not a sentence"
    assert key.kind != "value", f"{key.name}: its type has no words in config/key_reference.py"


def test_every_key_of_the_schema_is_there_once():
    names = [key.name.replace("[]", "") for key in KEYS]
    assert names == keys_of(Config)
    assert len(set(names)) == len(names)
    assert len([key for key in KEYS if key.section is None]) >= 145


def test_the_page_in_docs_is_the_schema_of_today():
    assert PAGE.read_text(encoding="utf-8") == as_markdown(), (
        "docs/configuration.md is stale: write it again with `make docs`, "
        "which is `fra-dist config --markdown > docs/configuration.md`"
    )


@pytest.mark.parametrize(
    ("name", "kind", "default"),
    [
        ("optim.lr", "number, above 0, 1e+09 or less", "0.9"),
        ("data.view2.blur", "number, 0 to 1", "0.1"),
        ("data.local_view.crop_scale", "list of 2 values, each number, 0 to 1", "[0.05, 0.2]"),
        ("model.decoder.dropout", "number, 0 or more, below 1", "0.1"),
        ("train.micro_batch", "whole number, 1 to 2^31 - 1; or null", "null"),
        ("train.backend", "one of deepspeed, torch", "deepspeed"),
        ("train.deepspeed", "section with keys of its own", "{}"),
        ("output", "path", "runs/fra"),
        ("data.cache", "path", '""'),
        ("checkpoint.keep_best", "text; or null", "null"),
        ("alarm.stop", "true or false", "false"),
        ("probe.sets[].data", "path", None),
        ("probe.sets[].tasks", "list of values, each one of expression, attributes, alignment, regions", "[]"),
        ("optim.drops", "list of values, each number, 0 to 1", "[0.6, 0.8]"),
    ],
)
def test_type_range_and_default_in_words(name, kind, default):
    (key,) = find_keys(name)
    assert (key.kind, key.default) == (kind, default)


def test_a_section_brings_its_keys():
    found = find_keys("loss")
    assert [key.name for key in found] == [
        "loss",
        *(f"loss.{f.alias or n}" for n, f in LossConfig.model_fields.items()),
    ]
    assert find_keys("probe.sets")[0].name == "probe.sets[]"


@pytest.mark.parametrize(
    ("name", "hint"),
    [("lr", "optim.lr"), ("train.batch_size", "train.global_batch"), ("opim", "optim"), ("qqqqqq", "lists all keys")],
)
def test_an_unknown_name_is_answered_with_the_right_one(name, hint):
    with pytest.raises(ConfigError, match=hint):
        find_keys(name)


@pytest.mark.parametrize("width", [40, 80, 100])
def test_text_keeps_to_the_width_of_the_terminal(width):
    lines = as_text(KEYS, width).splitlines()
    long = [line for line in lines if len(line) > width and " " in line.strip()]
    assert not long
    text = "".join("".join(lines).split())
    assert all("".join(key.meaning.split()) in text for key in KEYS), "nothing is cut off"
