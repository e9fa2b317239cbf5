"""Whole steps on a real GPU: `pytest -m gpu tests/gpu`."""

import itertools
from collections.abc import Iterator

import pytest
import torch

import fra_dist.kernels
from fra_dist.kernels import dispatch
from fra_dist.train.engines.cuda_graphs import WARM_UPS
from tests.helpers.step_runs import begin, run, views_of

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"),
]

SWITCHES = {"group_views": ("true", "false"), "channels_last": ("true", "false"), "cuda_graphs": ("true", "false")}
GENTLE = ["optim.lr=0.1"]
"""So that rounding does not grow from step to step."""
FP32 = ["train.precision=fp32", *GENTLE]
STEPS = WARM_UPS + 3


@pytest.fixture(autouse=True)
def exact_convolutions() -> Iterator[None]:
    cudnn = torch.backends.cudnn
    before = cudnn.allow_tf32, cudnn.deterministic
    cudnn.allow_tf32, cudnn.deterministic = False, True
    yield
    cudnn.allow_tf32, cudnn.deterministic = before


@pytest.mark.parametrize("kernels", ["auto", "reference"])
@pytest.mark.parametrize("values", [*itertools.product(*SWITCHES.values())], ids=str)
def test_every_combination_trains_alike(values: tuple[str, ...], kernels: str) -> None:
    words = [f"train.{name}={value}" for name, value in zip(SWITCHES, values, strict=True)]
    expected = run([*FP32, "train.group_views=false"], steps=STEPS)
    assert run([*FP32, *words], "cuda", kernels, steps=STEPS).apart(expected) < 1e-3


@pytest.mark.parametrize("kernels", ["auto", "reference"])
@pytest.mark.parametrize("graphs", ["true", "false"])
def test_the_correspondence_term_and_clusters_train_alike(graphs: str, kernels: str) -> None:
    words = ["loss.correspondence=1", "loss.exchange=true", "model.prototypes=clusters"]
    expected = run([*FP32, *words, "train.group_views=false"], steps=STEPS)
    found = run([*FP32, *words, f"train.cuda_graphs={graphs}"], "cuda", kernels, steps=STEPS)
    assert found.apart(expected) < 1e-3


@pytest.mark.parametrize("graphs", ["true", "false"])
@pytest.mark.parametrize("compiled", ["true", "false"])
def test_bf16_and_compiled_steps_are_near(compiled: str, graphs: str) -> None:
    words = [f"train.compile={compiled}", f"train.cuda_graphs={graphs}"]
    expected = run([*GENTLE, "train.group_views=false"], steps=STEPS)
    assert run([*FP32, *words], "cuda", steps=STEPS).apart(expected) < 1e-3
    assert run([*words, *GENTLE], "cuda", steps=STEPS).apart(expected) < 0.05


def test_a_step_runs_the_kernels() -> None:
    step = begin(["train.precision=bf16"], "cuda")
    before = dispatch.launches.copy()
    step.run(0, views_of(0, "cuda"))
    ran = {name for name, count in (dispatch.launches - before).items() if count}
    expected = ("batch_norm_statistics", "relation_terms", "lars_ema_step", "region_attention")
    expected += "decoder_attention", "self_attention"
    assert [name for name in expected if not any(r.startswith(name) for r in ran)] == []
    assert dispatch.launches["lars_ema_follow"] == before["lars_ema_follow"]  # the target went along
    assert {choice.path for choice in fra_dist.kernels.describe().values()} == {"triton"}


@pytest.mark.parametrize("graphs", ["true", "false"])
@pytest.mark.parametrize("optimizer", ["lars", "adamw"])
def test_a_step_never_waits_for_the_device(optimizer: str, graphs: str) -> None:
    words = ["train.precision=bf16", "optim.clip=1.0", f"optim.name={optimizer}", f"train.cuda_graphs={graphs}"]
    step = begin(words, "cuda")
    views = [views_of(number, "cuda") for number in range(WARM_UPS + 4)]
    for number in range(WARM_UPS + 2):
        step.run(number, views[number])
    torch.cuda.set_sync_debug_mode("error")
    try:
        for number in range(WARM_UPS + 2, WARM_UPS + 4):
            terms = step.run(number, views[number])
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert terms["total"].isfinite()


def test_steps_repeat_to_the_bit() -> None:
    runs = [run(["train.precision=bf16"], "cuda", steps=3) for _ in range(2)]
    assert runs[0].losses == runs[1].losses
    assert all(torch.equal(value, runs[1].state[name]) for name, value in runs[0].state.items())
