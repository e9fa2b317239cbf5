"""Settings of `train` that say how a step is carried out leave what it computes as it is."""

import itertools
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor

from fra_dist.config import load_config
from fra_dist.distributed import SINGLE, RankContext
from fra_dist.errors import ConfigError
from fra_dist.train.engines.cuda_graphs import WARM_UPS, Graphed, check_graphs
from fra_dist.train.sizes import derive_sizes
from tests.helpers.step_runs import begin, run, views_of

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


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["train.backend=deepspeed"], "needs train.backend=torch"),
        (["train.backend=torch", "train.activation_checkpointing=true"], "choose one"),
        (["train.backend=torch", "model.revive_dead={}"], "model.revive_dead changes"),
        (["train.backend=torch", "model.heatmap_temperature_end=0.5"], "heatmap_temperature_end changes"),
    ],
)
def test_what_cannot_be_recorded_is_refused(words: list[str], reason: str) -> None:
    with pytest.raises(ConfigError, match=reason):
        load_config(None, ["train.cuda_graphs=true", *words])


@pytest.mark.parametrize(
    ("device", "world", "micro", "reason"),
    [("cpu", 1, None, "CUDA device"), ("cuda", 2, None, "not of 2"), ("cuda", 1, 4, "train.micro_batch to 8")],
)
def test_where_it_cannot_be_recorded_is_refused(device: str, world: int, micro: int | None, reason: str) -> None:
    words = ["train.global_batch=8", f"train.micro_batch={micro or 'null'}", "train.backend=torch"]
    config = load_config(None, ["train.cuda_graphs=true", "optim.warmup_steps=0", *words])
    ctx = RankContext(0, world, 0, 0, torch.device(device), SINGLE)
    with pytest.raises(ConfigError, match=reason) as refused:
        check_graphs(config, ctx, derive_sizes(config, 100, world))
    assert "\n" not in str(refused.value)


class Played(Graphed):
    """A recording without a GPU: a replay calls the function, and what it gives is the memory of the first one."""

    def _warm_up(self, inputs: tuple[Tensor, ...]) -> Mapping[str, Tensor]:
        return self.function(*inputs)

    def _record(self) -> Callable[[], Mapping[str, Tensor]]:
        kept: dict[str, Tensor] = {}

        def replay() -> Mapping[str, Tensor]:
            before = {p: g for p, g in self.gradients}
            for p in self.parameters:
                p.grad = None
            results = self.function(*self.inputs)
            if not kept:
                kept.update(results)
                self.gradients = [(p, p.grad) for p in self.parameters if p.grad is not None]
                return kept
            for name, value in results.items():
                kept[name].copy_(value)
            for p, gradient in before.items():
                assert p.grad is not None
                gradient.copy_(p.grad)
                p.grad = gradient
            return kept

        return replay


def test_recording_lets_other_threads_use_the_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """Batches are decoded there meanwhile, which allocates: the stricter mode would end both."""
    modes = []

    @contextmanager
    def record(graph: object, **settings: str) -> Iterator[None]:
        modes.append(settings)
        yield

    monkeypatch.setattr(torch.cuda, "graph", record)
    monkeypatch.setattr(torch.cuda, "CUDAGraph", lambda: SimpleNamespace(replay=lambda: None))
    graphed = Graphed(lambda x: {"total": x}, [])
    graphed.calls = WARM_UPS
    graphed(torch.ones(1))
    assert modes == [{"capture_error_mode": "thread_local"}]


@pytest.mark.parametrize("loss", ["loss.relation_match=same_view", "loss.match=present"])
def test_recorded_steps_are_the_same_steps(loss: str) -> None:
    plain, recorded = begin([loss]), begin([loss])
    parameters = [p for p in recorded.model.parameters() if p.requires_grad]
    recorded.graphed = Played(recorded._recorded, parameters)
    for number in range(WARM_UPS + 3):
        terms = [dict(step.run(number, views_of(number))) for step in (plain, recorded)]
        assert all(torch.equal(terms[1][name], value) for name, value in terms[0].items()), number
    expected = plain.model.state_dict()
    assert [n for n, x in recorded.model.state_dict().items() if not torch.equal(x, expected[n])] == []
    assert recorded.graphed.calls == WARM_UPS + 3
