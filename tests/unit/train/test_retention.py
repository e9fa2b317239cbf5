import pytest
from hypothesis import given
from hypothesis import strategies as st

from fra_dist.config import CheckpointConfig, load_config
from fra_dist.errors import ConfigError
from fra_dist.train.checkpoints.retention import Scored, apply_retention, expendable
from fra_dist.train.checkpoints.writing import Contents, save_checkpoint


def settings(**values):
    return CheckpointConfig(**{"every_steps": 10, **values})


def steps(*numbers):
    return [Scored(number) for number in numbers]


@pytest.mark.parametrize(
    ("values", "gone"),
    [
        ({"keep_last": 1}, [10, 20, 30, 40]),
        ({"keep_last": 3}, [10, 20]),
        ({"keep_last": 9}, []),
        ({"keep_last": 1, "keep_every": 20}, [10, 30]),
        ({"keep_last": 2, "keep_every": 30}, [10, 20]),
    ],
)
def test_last_and_every_nth(values, gone):
    assert expendable(steps(10, 20, 30, 40, 50), settings(**values)) == gone


def test_the_best_stays():
    found = [Scored(10, 3.0), Scored(20, 1.0), Scored(30, 2.0), Scored(35), Scored(40, 2.5)]
    assert expendable(found, settings(keep_last=1, keep_best="loss")) == [10, 30, 35]
    assert expendable(found, settings(keep_last=1, keep_best="loss", best_is="highest")) == [20, 30, 35]
    assert expendable(found, settings(keep_last=1)) == [10, 20, 30, 35]


def test_of_equal_ones_the_newest_is_the_best():
    found = [Scored(10, 1.0), Scored(20, 1.0), Scored(30, 4.0)]
    assert expendable(found, settings(keep_last=1, keep_best="loss")) == [10]
    assert expendable(found, settings(keep_last=1, keep_best="loss", best_is="highest")) == [10, 20]


@given(
    st.lists(st.integers(1, 100), unique=True, min_size=1).map(sorted),
    st.integers(1, 5),
    st.integers(0, 4),
    st.booleans(),
)
def test_the_newest_always_stays_and_no_more_go_than_must(numbers, last, every, best):
    found = [Scored(number, score=float(number % 7)) for number in numbers]
    values = settings(keep_last=last, keep_every=every * 10, keep_best="x" if best else None)
    gone = expendable(found, values)
    assert numbers[-1] not in gone
    assert len(numbers) - len(gone) >= min(last, len(numbers))
    assert not [step for step in gone if every and step % (every * 10) == 0]
    if best:
        assert min(one.score for one in found) == min(one.score for one in found if one.step not in gone)


def test_on_the_disk(tmp_path):
    config = load_config(None, ["model.backbone=tiny"])
    for step, loss in ((10, 2.0), (20, 0.5), (30, float("nan")), (40, 1.0)):
        save_checkpoint(tmp_path, Contents(step, config, {}, {}, {}, {"loss/total": loss}))
    (tmp_path / "step-00000010" / "state.json").write_text("damaged: it has no value, and is not the best")
    gone = apply_retention(tmp_path, settings(keep_last=1, keep_best="loss/total"))
    assert [path.name for path in gone] == ["step-00000010", "step-00000030"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step-00000020", "step-00000040"]


def test_nothing_goes_while_the_best_cannot_be_told(tmp_path):
    config = load_config(None, ["model.backbone=tiny"])
    for step, loss in ((10, 0.5), (20, 2.0), (30, 1.0)):
        save_checkpoint(tmp_path, Contents(step, config, {}, {}, {}, {"loss/total": loss}))
    state = tmp_path / "step-00000010" / "state.json"
    state.rename(tmp_path / "kept")
    state.mkdir()  # what root, too, cannot read
    best = settings(keep_last=1, keep_best="loss/total")
    assert apply_retention(tmp_path, best) == []
    state.rmdir()
    (tmp_path / "kept").rename(state)
    assert [path.name for path in apply_retention(tmp_path, best)] == ["step-00000020"]


def test_a_link_is_left_alone(tmp_path):
    config = load_config(None, ["model.backbone=tiny"])
    for step in (10, 20):
        save_checkpoint(tmp_path / "checkpoints", Contents(step, config, {}, {}, {}))
    first = tmp_path / "checkpoints" / "step-00000010"
    first.rename(tmp_path / "elsewhere")
    first.symlink_to(tmp_path / "elsewhere")
    apply_retention(tmp_path / "checkpoints", settings(keep_last=1))
    assert (tmp_path / "elsewhere" / "manifest.json").exists()


def test_steps_that_are_never_saved_cannot_be_kept():
    with pytest.raises(ConfigError, match=r"keep_every 250 must be a multiple of checkpoint.every_steps 100"):
        load_config(None, ["checkpoint.every_steps=100", "checkpoint.keep_every=250"])
