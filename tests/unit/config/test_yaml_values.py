"""Values mean what their writer meant, whatever YAML 1.1 takes them for."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fra_dist.config import dump_config, load_config
from fra_dist.errors import ConfigError

WORDS = ["2026-11-28", "2026-11-28 12:00:00", "007", "1_000", "12:30:00", "1e5", "3.10", "on", "No", "y", "0x1F", ".5"]
IN_OVERRIDES = ["run #3", "a: b", "[a]", "O'Brien", "*star", "&anchor", "!tag", "%x", "@x", "x: {y}", "- a", "{", "'"]


@pytest.mark.parametrize("word", WORDS)
def test_a_plain_word_is_text_where_text_is_asked_for(tmp_path, word):
    path = tmp_path / "c.yaml"
    path.write_text(f"name: {word}\noutput: {word}\nprobe: {{sets: [{{data: {word}, name: {word}}}]}}\n")
    config = load_config(path, [f"checkpoint.keep_best={word}"])
    probe = config.probe.sets[0]
    assert {config.name, config.output, probe.data, probe.name, config.checkpoint.keep_best} == {word}


@pytest.mark.parametrize("word", [*WORDS, *IN_OVERRIDES])
def test_an_override_of_text_is_taken_as_it_stands(word):
    assert load_config(None, [f"name={word}"]).name == word


@given(st.text(st.characters(exclude_categories=("Cs", "Cc")), min_size=1))
def test_any_text_survives_an_override_and_a_dump(tmp_path_factory, text):
    bare = text.strip()
    if bare in ("", "~", "null", "Null", "NULL") or (len(bare) > 1 and bare[0] == bare[-1] and bare[0] in "'\""):
        return
    config = load_config(None, [f"name={text}"])
    assert config.name == text
    path = tmp_path_factory.mktemp("dump") / "c.yaml"
    path.write_text(dump_config(config), encoding="utf-8")
    assert load_config(path) == config


def test_quotes_around_a_whole_value_are_taken_off():
    assert load_config(None, ["name='a b'"]).name == "a b"
    assert load_config(None, ['name="null"']).name == "null"


@pytest.mark.parametrize(("word", "value"), [("yes", True), ("off", False), ("True", True), ("no", False)])
def test_words_for_true_and_false(word, value):
    assert load_config(None, [f"train.compile={word}"]).train.compile is value


def test_null_is_null_where_it_may_be_and_refused_in_one_line_elsewhere():
    assert load_config(None, ["checkpoint.keep_best=~"]).checkpoint.keep_best is None
    assert load_config(None, ["train.steps=null"]).train.steps is None
    for override in ("output=null", "name=~"):
        with pytest.raises(ConfigError, match="got null: as text it is written in quotes") as refused:
            load_config(None, [override])
        advised = str(refused.value).partition("(in a shell: '")[2].partition("'")[0]
        assert getattr(load_config(None, [advised]), override.partition("=")[0]) == "null"
    with pytest.raises(ConfigError, match="output"):
        load_config(None, ["output="])


@pytest.mark.parametrize("word", ["007", "010", "-012"])
def test_a_number_that_begins_with_0_is_refused_as_a_number(tmp_path, word):
    path = tmp_path / "c.yaml"
    path.write_text(f"seed: {word}\n")
    for source in ((path, []), (None, [f"seed={word}"])):
        with pytest.raises(ConfigError, match=f"leave the 0 out.*{word}"):
            load_config(*source)


def test_numbers_are_numbers():
    config = load_config(None, ["seed=1_000", "optim.lr=1e-3", "data.mean=[.5, 0.25, 1e0]", "optim.drops=[0.5]"])
    assert (config.seed, config.optim.lr, config.data.mean, config.optim.drops) == (
        1000,
        1e-3,
        (0.5, 0.25, 1.0),
        (0.5,),
    )


def test_keys_of_deepspeed_keep_the_types_of_yaml():
    config = load_config(None, ["train.deepspeed={a: {b: on, c: [1, 2e3, x]}}"])
    assert config.train.deepspeed == {"a": {"b": True, "c": [1, 2000.0, "x"]}}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("seed: 1\ndata: {threads: 1}\nname: a\ndata: {threads: 2}\n", "data is written twice, on lines 2 and 4"),
        ("train:\n  steps: 3\n  epochs: 2\n  steps: 4\n", "steps is written twice, on lines 2 and 4"),
        ("probe:\n  sets:\n  - data: a\n    data: b\n", "data is written twice, on lines 3 and 4"),
        ("train: {steps: 3, steps: 4}\n", "steps is written twice, on line 1"),
    ],
)
def test_what_is_written_twice_is_refused_with_both_lines(tmp_path, text, said):
    path = tmp_path / "twice.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=said) as caught:
        load_config(path)
    assert "twice.yaml" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_override_that_writes_a_key_twice_is_refused():
    with pytest.raises(ConfigError, match="threads is written twice"):
        load_config(None, ["data={threads: 1, threads: 2}"])


def test_anchors_and_merges_still_work(tmp_path):
    path = tmp_path / "c.yaml"
    path.write_text("data:\n  view1: &v {flip: 0.25, blur: 0.5}\n  view2: {<<: *v, blur: 0.75}\n  local_view: *v\n")
    data = load_config(path).data
    assert (data.view1.flip, data.view2.flip, data.view2.blur, data.local_view.blur) == (0.25, 0.25, 0.75, 0.5)


@pytest.mark.parametrize("text", ["data: &a [*a]\n", "{[a]: 1}\n", "a: !!python/object:x.y {}\n", "a: *b\n"])
def test_odd_yaml_is_refused_in_one_line(tmp_path, text):
    path = tmp_path / "odd.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=r"odd\.yaml") as caught:
        load_config(path)
    assert "\n" not in str(caught.value)
