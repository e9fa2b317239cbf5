"""Ways of doing a step, the published one through an adapter among them; and what is counted of a step."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from counting import PretendedRanks, collectives_of, requests
from whole_step import OurStep, Setting, has_setting, plainly, published

from fra_dist.errors import ConfigError

SMALL = Setting("resnet18", 64, 4, torch.device("cpu"), small=True, dropout=0.0)


def test_an_adapter_gets_all_weights_and_its_loss_is_returned(checkout: Path) -> None:
    run = published(SMALL, checkout, f"{checkout / 'adapter.py'}:make_step")
    assert float(run()) == pytest.approx(float(plainly(SMALL)()), rel=1e-6)


def test_an_adapter_is_told_everything(checkout: Path) -> None:
    with pytest.raises(AssertionError) as told:
        published(SMALL, checkout, f"{checkout / 'adapter.py'}:no_step")
    names, count = told.value.args
    assert {"backbone", "size", "batch", "dtype", "device", "lr", "weight_decay", "dropout", "total_steps"} <= {*names}
    assert count == len(SMALL.weights())


def test_wrong_adapters_are_named_in_one_line(checkout: Path, tmp_path: Path) -> None:
    adapter = checkout / "adapter.py"
    for folder, words, reason in (
        (tmp_path / "none", f"{adapter}:make_step", "no such folder"),
        (checkout, f"{tmp_path / 'none.py'}:make_step", "no file"),
        (checkout, "make_step", "no file"),
        (checkout, f"{adapter}:make_stp", "no function 'make_stp'"),
    ):
        with pytest.raises(ConfigError, match=reason) as error:
            published(SMALL, folder, words)
        assert "\n" not in str(error.value)


def test_settings_of_a_step_are_those_of_the_package() -> None:
    assert has_setting("compile")
    assert not has_setting("warp")
    with pytest.raises(ConfigError, match="warp"):
        OurStep(SMALL, warp=True)


def test_operations_are_counted_without_those_around_them() -> None:
    x = torch.ones(3, 3)
    assert requests(lambda: (x + x, x * x, x.relu()), torch.device("cpu")) == {"operations": 3}


@pytest.fixture
def pretended() -> Iterator[PretendedRanks]:
    cross = PretendedRanks(2)
    yield cross
    dist.destroy_process_group()


def test_collectives_are_counted_forward_and_backward(pretended: PretendedRanks) -> None:
    x = torch.ones(3, requires_grad=True)

    def run() -> None:
        pretended.sum(pretended.mean(x)).sum().backward()

    assert collectives_of(run) == {"allreduce_": 4}
    torch.testing.assert_close(x.grad, torch.full((3,), 0.5))


def test_our_step_runs_as_one_of_pretended_ranks(pretended: PretendedRanks) -> None:
    run = OurStep(SMALL, pretended)
    assert len(run.views[0]) == 2
    run()
    single = sum(isinstance(module, torch.nn.modules.batchnorm._BatchNorm) for module in run.model.modules())
    assert collectives_of(run)["allreduce_"] > single / 2
