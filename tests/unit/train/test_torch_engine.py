"""What the engine and the start of a run set in PyTorch."""

from collections.abc import Iterator

import pytest
import torch
import torch.distributed as dist
from torch import Tensor, nn

from fra_dist.config import load_config
from fra_dist.distributed import SINGLE, RankContext
from fra_dist.errors import ConfigError
from fra_dist.train.engines.torch_engine import TorchEngine
from fra_dist.train.prepare import prepare
from fra_dist.train.sizes import derive_sizes


class TwoViews(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(4, 8), nn.Linear(8, 2)

    def forward(self, view1: Tensor, view2: Tensor) -> Tensor:
        return self.second(self.first(view1)) - self.second(self.first(view2))


@pytest.fixture
def group() -> Iterator[None]:
    if dist.is_initialized():  # a run in this process went before; DeepSpeed keeps groups of it for the next
        yield
        return
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    yield
    dist.destroy_process_group()


@pytest.mark.usefixtures("group")
def test_gradients_on_several_ranks_are_views_of_the_buckets() -> None:
    config = load_config(None, ["train.backend=torch", "train.global_batch=2", "train.steps=4", "optim.warmup_steps=0"])
    model = TwoViews()
    ctx = RankContext(0, 2, 0, 0, torch.device("cpu"), SINGLE)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    engine = TorchEngine(config, model, optimizer, ctx, derive_sizes(config, 8, 1))
    for _ in range(2):
        engine.differentiate(engine(torch.randn(2, 4), torch.randn(2, 4), True).square().mean(), True)
        gradients = [p.grad for p in model.parameters() if p.grad is not None]
        assert len(gradients) == 4
        assert len({g.untyped_storage().data_ptr() for g in gradients}) == 1
        optimizer.zero_grad(set_to_none=True)  # as the update of the engine ends


@pytest.fixture
def switches() -> Iterator[None]:
    benchmark, deterministic = torch.backends.cudnn.benchmark, torch.are_deterministic_algorithms_enabled()
    yield
    torch.backends.cudnn.benchmark = benchmark
    torch.use_deterministic_algorithms(deterministic)


@pytest.mark.usefixtures("switches")
@pytest.mark.parametrize("deterministic", [True, False])
def test_cudnn_tries_its_algorithms_unless_the_run_is_deterministic(deterministic: bool) -> None:
    torch.backends.cudnn.benchmark = deterministic
    with pytest.raises(ConfigError, match=r"data\.shards is empty"):
        prepare(load_config(None, [f"train.deterministic={str(deterministic).lower()}"]))
    assert torch.backends.cudnn.benchmark is not deterministic
