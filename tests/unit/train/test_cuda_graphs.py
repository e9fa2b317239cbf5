"""Steps that are recorded and replayed are the same steps, and a recording that is wrong is not used.

Without a GPU, a stand-in for the device replays by calling the function again, into the memory of the first results.
"""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor

from fra_dist.config import load_config
from fra_dist.distributed import SINGLE, RankContext
from fra_dist.errors import ConfigError
from fra_dist.train.engines.cuda_graphs import (
    WARM_UPS,
    CudaDevice,
    RecordedPasses,
    Results,
    obstacle,
    recorded_passes,
    summed,
)
from fra_dist.train.step import Step
from tests.helpers.step_runs import begin, geometry_of, views_of

ACCUMULATED = "train.micro_batch=2"
STEPS = WARM_UPS + 3


class Played:
    """Records without a GPU. A replay calls the function; what it gives has the memory of the first call."""

    def __init__(self, step: Step) -> None:
        self.buffers = step.buffers
        self.parameters = [p for p in step.model.parameters() if p.requires_grad]
        self.recorded = 0

    def beside(self, function: Callable[[], Results]) -> Results:
        return function()

    def record(self, function: Callable[[], Results]) -> tuple[Results, Callable[[], None]]:
        self.recorded += 1
        buffers, added_to = self.buffers.copy(), [p.grad for p in self.parameters]
        before = [None if g is None else g.clone() for g in added_to]
        results = function()  # on a GPU nothing happens while it is recorded: undone
        kept = [p.grad for p in self.parameters]
        self.buffers.put(buffers)
        for gradient, value in zip(added_to, before, strict=True):
            if gradient is not None and value is not None:
                gradient.copy_(value)

        def replay() -> None:
            for parameter, gradient in zip(self.parameters, added_to, strict=True):
                parameter.grad = gradient
            for name, value in self.again(function).items():
                results[name].copy_(value)
            for parameter, gradient in zip(self.parameters, kept, strict=True):
                if gradient is not None and parameter.grad is not gradient:
                    assert parameter.grad is not None
                    gradient.copy_(parameter.grad)
                parameter.grad = gradient

        return results, replay

    def again(self, function: Callable[[], Results]) -> Results:
        return function()


class Wrong(Played):
    """Replays give other gradients, as those of a recording that reads memory of somebody else."""

    def again(self, function: Callable[[], Results]) -> Results:
        results = function()
        for parameter in self.parameters:
            if parameter.grad is not None:
                parameter.grad.mul_(0.9)
        return results


class Refusing(Played):
    def record(self, function: Callable[[], Results]) -> tuple[Results, Callable[[], None]]:
        raise RuntimeError("CUDA error: operation not permitted when stream is capturing\nmore advice")


def recording(words: list[str], device: type[Played] = Played, any_rank: bool = False) -> Step:
    step = begin(words)
    played = device(step)
    step.recorded = RecordedPasses(step._pass, played.parameters, step.buffers, played, lambda here: here or any_rank)
    return step


def steps_are_the_same(words: list[str], recorded: Step) -> None:
    plain = begin(words)
    for number in range(STEPS):
        rows = [step.run(number, views_of(number), geometry_of(number)) for step in (plain, recorded)]
        assert rows[0].keys() == rows[1].keys()
        assert [name for name, value in rows[0].items() if not torch.equal(rows[1][name], value)] == [], number
    expected = plain.model.state_dict()
    assert [n for n, x in recorded.model.state_dict().items() if not torch.equal(x, expected[n])] == []


@pytest.mark.parametrize(
    ("words", "recordings"),
    [
        (["loss.relation_match=same_view"], 1),
        (["loss.match=present"], 1),
        ([ACCUMULATED], 3),  # the first pass, those between, and the last
        (["train.micro_batch=4"], 2),
        (["loss.correspondence=1", "model.prototypes=clusters", ACCUMULATED], 3),
        (["model.revive_dead={steps: 1, share: 0.2}", "model.heatmap_temperature_end=0.3"], 1),
        (["model.decoder=null", "loss.local=0", "loss.relation=0"], 1),
    ],
)
def test_recorded_steps_are_the_same_steps(words: list[str], recordings: int) -> None:
    step = recording(words)
    steps_are_the_same(words, step)
    assert step.recorded is not None
    assert len(step.recorded.recordings) == recordings
    assert isinstance(step.recorded.device, Played)
    assert step.recorded.device.recorded == recordings


@pytest.mark.parametrize("words", [[], [ACCUMULATED], ["model.prototypes=clusters"]], ids=str)
@pytest.mark.parametrize(
    ("device", "any_rank", "reason"),
    [
        (Wrong, False, "gradients of the recording differ by"),
        (Refusing, False, "the step cannot be recorded: CUDA error: operation not permitted when stream is capturing"),
        (Played, True, "another rank cannot use them"),
    ],
)
def test_a_recording_that_is_wrong_is_not_used(
    words: list[str], device: type[Played], any_rank: bool, reason: str, caplog: pytest.LogCaptureFixture
) -> None:
    step = recording(words, device, any_rank)
    steps_are_the_same(words, step)
    said = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert len(said) == 1
    assert said[0].startswith(f"CUDA graphs are not used: {reason}")
    assert "\n" not in said[0]
    assert step.recorded is not None
    assert step.recorded.refused


def test_a_recording_that_is_insisted_on_is_an_error_when_it_is_wrong() -> None:
    step = recording([], Wrong)
    assert step.recorded is not None
    step.recorded.insist = True
    for number in range(WARM_UPS):
        step.run(number, views_of(number))
    with pytest.raises(ConfigError, match=r"train\.cuda_graphs=true cannot be done: gradients"):
        step.run(WARM_UPS, views_of(WARM_UPS))


def test_a_step_that_is_not_finite_proves_nothing() -> None:
    step = recording([])
    assert step.recorded is not None
    for number in range(WARM_UPS + 2):
        views = views_of(number)
        if number == WARM_UPS:
            views[0][0, 0, 0, 0] = torch.nan
        applied = step.run(number, views)["step/applied"]
        assert applied == (number != WARM_UPS)
        assert bool(step.recorded.recordings) == (number > WARM_UPS)
    assert not step.recorded.refused


def test_rows_of_steps_stay_as_they_were() -> None:
    """Replays write into the same memory, and whoever looks at a row later must not find the next one's numbers."""
    step = recording([])
    rows = [step.run(number, views_of(number)) for number in range(STEPS)]
    totals = [row["total"].item() for row in rows]
    assert len(set(totals)) == STEPS
    again = recording([])
    assert totals == [again.run(number, views_of(number))["total"].item() for number in range(STEPS)]


def test_sums_have_memory_of_their_own() -> None:
    """Two names may stand for one tensor, and a replay writes into the tensors of the one before."""
    terms = {"total": torch.tensor(2.0), "other": torch.tensor(3.0)}
    terms["alias"] = terms["total"]
    sums = summed(iter([terms, terms, terms]))
    assert {name: value.item() for name, value in sums.items()} == {"total": 6, "other": 9, "alias": 6}
    assert terms["total"] == 2


def test_recording_lets_other_threads_use_the_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """Batches are decoded there meanwhile, which allocates: the stricter mode would end both."""
    modes = []

    @contextmanager
    def record(graph: object, **settings: object) -> Iterator[None]:
        modes.append(settings["capture_error_mode"])
        yield

    monkeypatch.setattr(torch.cuda, "graph", record)
    monkeypatch.setattr(torch.cuda, "CUDAGraph", lambda: SimpleNamespace(replay=lambda: None))
    monkeypatch.setattr(torch.cuda, "Stream", lambda device: None)
    monkeypatch.setattr(torch.cuda, "graph_pool_handle", lambda: (0, 0))
    CudaDevice(torch.device("cuda", 7)).record(dict)
    assert modes == ["thread_local"]


CUDA = torch.device("cuda", 0)
RECOMPUTED = "train.activation_checkpointing=true"


@pytest.mark.parametrize(
    ("words", "device", "world", "reason"),
    [
        ([], CUDA, 1, None),
        ([ACCUMULATED], CUDA, 8, None),
        (["model.revive_dead={}", "model.heatmap_temperature_end=0.5"], CUDA, 8, None),
        ([], torch.device("cpu"), 1, "needs a CUDA device"),
        ([RECOMPUTED], CUDA, 1, "activation_checkpointing"),
        (["train.zero_stage=1"], CUDA, 2, "zero_stage=1"),
        (["loss.extra={mine:term: 1}"], CUDA, 1, "loss.extra"),
        (["train.backend=torch"], CUDA, 2, "DistributedDataParallel"),
        (["train.backend=torch", "train.cuda_graphs=true"], CUDA, 2, None),
        (["loss.extra={mine:term: 1}", "train.cuda_graphs=true"], CUDA, 1, None),
    ],
)
def test_what_is_not_recorded(words: list[str], device: torch.device, world: int, reason: str | None) -> None:
    found = obstacle(load_config(None, words), RankContext(0, world, 0, 0, device, SINGLE))
    assert (found is None) == (reason is None)
    assert reason is None or reason in str(found)


@pytest.mark.parametrize("words", [["train.zero_stage=1"], [RECOMPUTED]])
def test_what_does_not_go_together_is_refused(words: list[str]) -> None:
    with pytest.raises(ConfigError, match="choose one"):
        load_config(None, ["train.cuda_graphs=true", *words])


def test_asked_for_where_there_is_no_gpu_it_is_an_error() -> None:
    model = torch.nn.Linear(2, 2)
    ctx = RankContext(0, 1, 0, 0, torch.device("cpu"), SINGLE)
    for word, refused in (("true", True), ("null", False), ("false", False)):
        config = load_config(None, [f"train.cuda_graphs={word}"])
        if refused:
            with pytest.raises(ConfigError, match="needs a CUDA device") as caught:
                recorded_passes(config, ctx, _nothing, model, begin([]).buffers)
            assert "\n" not in str(caught.value)
        else:
            assert recorded_passes(config, ctx, _nothing, model, begin([]).buffers) is None


def _nothing(_: object) -> dict[str, Tensor]:
    return {}
