"""Settings of `train` that say how a step is carried out leave what it computes as it is."""

import itertools

import pytest

from tests.helpers.step_runs import begin, run

SWITCHES = {
    "group_views": ("true", "false"),
    "channels_last": ("true", "false"),
    "activation_checkpointing": ("true", "false"),
}
EXACT = ["train.precision=fp64"]


@pytest.mark.parametrize("kernels", ["auto", "reference"])
@pytest.mark.parametrize("values", [*itertools.product(*SWITCHES.values())], ids=str)
def test_every_combination_trains_alike(values: tuple[str, ...], kernels: str) -> None:
    words = [f"train.{name}={value}" for name, value in zip(SWITCHES, values, strict=True)]
    expected = run([*EXACT, "train.group_views=false"])
    assert run([*EXACT, *words], kernels=kernels).apart(expected) < 1e-9


@pytest.mark.parametrize("grouped", ["true", "false"])
def test_bf16_is_near(grouped: str) -> None:
    expected = run([])
    found = run([f"train.group_views={grouped}", "train.precision=bf16"])
    assert 0 < found.apart(expected) < 0.05
    assert found.losses == pytest.approx(expected.losses, rel=5e-3)


@pytest.mark.slow
@pytest.mark.parametrize("grouped", ["true", "false"])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_compiled_steps_train_alike(grouped: str, precision: str) -> None:
    words = [f"train.group_views={grouped}", f"train.precision={precision}"]
    expected = run(words)
    found = run([*words, "train.compile=true"])
    assert found.apart(expected) < (1e-4 if precision == "fp32" else 0.05)


def test_views_are_grouped_where_it_helps() -> None:
    assert not begin([]).model.views_grouped
    assert begin(["train.group_views=true"]).model.views_grouped
