"""The plain version is independent of the package: the same numbers from both mean that both are right."""

from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from plain_fra import PlainStep, sine_code, sinkhorn
from whole_step import OurStep, Setting, plainly

from fra_dist.layouts.published_names import to_published
from fra_dist.models.decoder import position_code

EXACT = Setting("resnet18", 64, 3, torch.device("cpu"), "float64", small=True, dropout=0.0)


def test_three_steps_give_the_same_losses_weights_and_statistics() -> None:
    config, views = EXACT.config(), EXACT.views()
    ours, plain = OurStep(EXACT), PlainStep(EXACT.config(), EXACT.weights(), EXACT.device)
    lr = config.optim.lr * EXACT.batch / config.optim.lr_batch
    start = EXACT.weights()
    for _ in range(3):
        wanted = plain(*views, lr=lr, momentum=config.optim.ema_momentum)
        torch.testing.assert_close(ours(), wanted, rtol=1e-9, atol=0)
    found = to_published(ours.model.state_dict())
    for name, value in plain.model.state_dict().items():
        torch.testing.assert_close(found[name], value, rtol=1e-6, atol=1e-9, msg=lambda text, name=name: name + text)
    moved = [name for name, value in found.items() if value.is_floating_point() and not value.equal(start[name])]
    assert {name.split(".")[0] for name in moved} == {"online_net", "target_net", "predictor", "predictor_obj"}


@pytest.mark.parametrize("channels_last", [False, True])
def test_fp32_agrees_in_both_layouts(channels_last: bool) -> None:
    single = replace(EXACT, dtype="float32")
    losses = [float(run()) for run in (OurStep(single), plainly(single, channels_last=channels_last))]
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)  # 1.1e-5 seen with AVX-512; float64 above is exact


@pytest.mark.slow
def test_the_compiler_takes_it_as_one_graph() -> None:
    """What the GPU suite compares with; here without the code generator."""
    single = replace(EXACT, dtype="float32", batch=2)
    plain = PlainStep(single.config(), single.weights(), single.device)
    wanted = plain.model(*single.views())
    plain = PlainStep(single.config(), single.weights(), single.device)
    compiled = torch.compile(plain.model, backend="aot_eager", fullgraph=True, dynamic=False)
    loss = compiled(*single.views())
    loss.backward()
    torch.testing.assert_close(loss, wanted, rtol=1e-5, atol=0)
    assert all(p.grad is not None for p in plain.trained)
    torch._dynamo.reset()


def test_dropout_is_in_the_plain_step() -> None:
    wild = replace(EXACT, dropout=0.5)
    torch.manual_seed(3)
    assert abs(float(plainly(wild)()) - float(plainly(EXACT)())) > 1e-6


@given(st.integers(1, 4), st.integers(2, 7), st.integers(1, 9))
def test_sinkhorn_balances(images: int, regions: int, pixels: int) -> None:
    share = torch.rand(images, regions, pixels, dtype=torch.float64).softmax(dim=1)
    plan = sinkhorn(share, 200)
    torch.testing.assert_close(plan.sum(dim=1), torch.ones(images, pixels, dtype=torch.float64))
    wanted = torch.full((regions,), images * pixels / regions, dtype=torch.float64)
    torch.testing.assert_close(plan.sum(dim=(0, 2)), wanted, rtol=1e-4, atol=0)


def test_sine_code_is_the_package_s() -> None:
    code = sine_code(3, 5, 12, torch.device("cpu")).flatten(1).T
    torch.testing.assert_close(code, position_code(3, 5, 12, torch.device("cpu")))
