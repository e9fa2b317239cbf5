"""The alarms' judgement on plain rows; `tests/unit/cli/test_probed_run.py` has a real run."""

import json
from types import SimpleNamespace

import pytest

from fra_dist.config import AlarmConfig, parse_config
from fra_dist.errors import TrainingError
from fra_dist.train.hooks.collapse_alarms import MEMORY, SIGNS, Alarms, count_row

FINE = {
    "embedding/spread": 0.8,
    "embedding/rank": 12.0,
    "regions/in_use": 8.0,
    "regions/overlap": 0.4,
    "queries/cosine": 0.1,
}
WRONG = {
    "spread": ("embedding/spread", 0.01),
    "rank": ("embedding/rank", 1.1),
    "dead_regions": ("regions/in_use", 3.0),
    "overlap": ("regions/overlap", 0.99),
    "query_cosine": ("queries/cosine", 0.999),
}


class FakeRun:
    def __init__(self, **alarm):
        self.config = parse_config({"alarm": alarm})
        self.completed, self.memory, self.notes = 0, {}, []
        self.ctx = SimpleNamespace(is_main=True)
        self.sizes = SimpleNamespace(micro_batch=8)
        self.folder = SimpleNamespace(note=lambda event, **facts: self.notes.append((event, facts)))


def follow(run, rows, first=1, alarms=None):
    """Give rows at steps `first`, `first` + 1, ..."""
    metrics = SimpleNamespace(last_row={})
    hook = alarms or Alarms(metrics)
    for step, row in enumerate(rows, first):
        run.completed = step
        hook.metrics.last_row = {"step": step, **row}
        hook.after_step(run, None, {})


def test_every_limit_of_the_configuration_has_a_sign():
    limits = AlarmConfig.model_fields.keys() - {"stop", "after_steps", "patience"}
    assert {sign.setting for sign in SIGNS} == limits == WRONG.keys()


@pytest.mark.parametrize(("images", "told"), [(2, []), (3, []), (4, ["spread", "rank"])])
def test_a_few_images_say_nothing_of_their_spread(images, told):
    run = FakeRun(after_steps=0, patience=1)
    run.sizes.micro_batch = images
    follow(run, [FINE | {"embedding/spread": 0.0, "embedding/rank": 1.0}])
    assert [facts["sign"] for _, facts in run.notes] == told


@pytest.mark.parametrize("setting", WRONG)
def test_a_sign_is_told_once_an_episode_with_what_to_try(setting, capsys):
    run = FakeRun(after_steps=0, patience=3)
    metric, value = WRONG[setting]
    bad = {**FINE, metric: value}
    follow(run, [bad, bad, FINE, bad, bad, bad, bad, bad, FINE, FINE, bad, bad, bad])
    said = [(event, facts["step"], facts["sign"]) for event, facts in run.notes]
    assert said == [("alarm", 6, setting), ("alarm over", 9, setting), ("alarm", 13, setting)]
    (line, again) = capsys.readouterr().err.splitlines()
    sign = next(one for one in SIGNS if one.setting == setting)
    assert line.startswith(f"warning: step 6: {sign.what}: {sign.metric} has been ")
    assert sign.advice in line
    assert f"alarm.{setting}=" in line
    assert again.startswith("warning: step 13: ")
    assert run.notes[0][1]["action"] == "warn"


@pytest.mark.parametrize("setting", WRONG)
def test_no_alarm_for_a_healthy_run_or_a_limit_of_null(setting):
    run = FakeRun(after_steps=0, patience=1, **{setting: None})
    metric, value = WRONG[setting]
    follow(run, [FINE, {**FINE, metric: value}, FINE])
    assert run.notes == []


def test_nothing_is_judged_before_after_steps_and_values_that_lack_change_nothing():
    run = FakeRun(after_steps=4, patience=2)
    bad = {**FINE, "embedding/spread": 0.0}
    follow(run, [bad] * 5)
    assert run.notes == []
    assert run.memory[MEMORY]["spread"] == 1
    follow(run, [{**FINE, "embedding/spread": None}, {}], first=6)
    assert run.memory[MEMORY]["spread"] == 1
    follow(run, [bad], first=8)
    assert [facts["step"] for _, facts in run.notes] == [8]


def test_a_run_without_regions_is_judged_by_its_embeddings():
    found = count_row({}, (), {"embedding/spread": 0.0, "embedding/rank": 1.0}, AlarmConfig(patience=1), 8)
    assert [sign.setting for sign, _ in found.begun] == ["spread", "rank"]
    assert found.counts == {"spread": 1, "rank": 1}
    assert found.told == {"spread", "rank"}
    assert found.over == []


def test_only_log_steps_are_looked_at():
    run = FakeRun(after_steps=0, patience=1)
    hook = Alarms(SimpleNamespace(last_row={"step": 10, "embedding/spread": 0.0}))
    run.completed = 11
    hook.after_step(run, None, {})
    assert run.notes == []


def test_stop_ends_the_run_in_one_line_that_names_the_sign():
    run = FakeRun(after_steps=0, patience=2, stop=True)
    bad = {**FINE, "queries/cosine": 0.9999}
    with pytest.raises(TrainingError, match=r"^stopped at step 2 \(alarm.stop=true\): the queries of all regions") as e:
        follow(run, [bad] * 3)
    assert "\n" not in str(e.value)
    assert e.value.exit_status == 2
    assert run.notes[-1][1]["action"] == "stop"


def test_a_resumed_run_tells_what_an_undisturbed_one_does():
    bad = {**FINE, "regions/overlap": 1.0}
    rows = [bad, bad, bad, bad, FINE, bad]
    whole = FakeRun(after_steps=0, patience=3)
    follow(whole, rows)
    for stop in range(1, 6):
        first, second = FakeRun(after_steps=0, patience=3), FakeRun(after_steps=0, patience=3)
        follow(first, rows[:stop])
        second.memory = json.loads(json.dumps(first.memory))
        follow(second, rows[stop:], first=stop + 1)
        assert first.notes + second.notes == whole.notes


BAD = {**FINE, "regions/overlap": 1.0}


def gone_on(run, **alarm):
    """The run after a stop, with other settings."""
    after = FakeRun(after_steps=0, **alarm)
    after.memory = json.loads(json.dumps(run.memory))
    return after


def said(run):
    return [(event, facts["step"]) for event, facts in run.notes]


def test_an_episode_is_told_at_once_when_a_run_goes_on_with_less_patience(capsys):
    first = FakeRun(after_steps=0, patience=10)
    follow(first, [BAD] * 5)
    assert said(first) == []
    second = gone_on(first, patience=3)
    follow(second, [BAD, BAD, FINE, BAD, BAD, BAD], first=6)
    assert said(second) == [("alarm", 6), ("alarm over", 8), ("alarm", 11)]
    assert "for 6 log steps" in capsys.readouterr().err.splitlines()[0]


def test_an_episode_is_not_told_again_when_a_run_goes_on_with_more_patience():
    first = FakeRun(after_steps=0, patience=2)
    follow(first, [BAD] * 3)
    second = gone_on(first, patience=5)
    follow(second, [BAD] * 4, first=4)
    assert said(first) == [("alarm", 2)]
    assert second.notes == []
    follow(second, [FINE], first=8)
    assert said(second) == [("alarm over", 8)]


def test_a_checkpoint_that_does_not_say_what_was_told_rather_tells_again():
    first = FakeRun(after_steps=0, patience=2)
    first.memory = {MEMORY: {"overlap": 7}}
    follow(first, [BAD, BAD], first=8)
    assert said(first) == [("alarm", 8)]
