import copy
import os
import pwd

import pytest
import torch
from torch import nn

from fra_dist.config import DecoderConfig, LossConfig, ModelConfig, TrainConfig, load_config
from fra_dist.errors import ConfigError
from fra_dist.kernels import dispatch
from fra_dist.losses.total import fra_loss
from fra_dist.models.backbone import build_backbone
from fra_dist.models.fra import FRA
from fra_dist.models.passes.recompute import recompute_blocks
from fra_dist.train import execution
from fra_dist.train.execution import set_execution


def build(backbone: nn.Module | None = None, dropout: float = 0.1) -> FRA:
    torch.manual_seed(0)
    decoder = DecoderConfig(layers=1, heads=2, feedforward=16, dropout=dropout, query_offset=True)
    config = ModelConfig(backbone="tiny", regions=3, width=16, hidden=16, decoder=decoder)
    return FRA(config, backbone=copy.deepcopy(backbone)).train()


def loss_gradients_buffers(model: FRA, size: int = 32) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    views = [torch.randn(4, 3, size, size, generator=generator) for _ in range(2)]
    torch.manual_seed(2)
    loss = fra_loss(model(*views), LossConfig())["total"]
    loss.backward()
    found = {f"grad/{name}": p.grad for name, p in model.named_parameters() if p.grad is not None}
    return {"loss": loss.detach(), **found, **dict(model.named_buffers())}


class Dropping(nn.Module):
    """A block with batch norm and dropout, which must draw the same numbers twice."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm, self.drop = nn.Conv2d(3, 8, 4, stride=4), nn.BatchNorm2d(8), nn.Dropout(0.3)
        self.calls = 0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.calls += 1
        return self.drop(self.norm(self.conv(x)).relu())


class Blocks(nn.Module):
    out_channels = 8

    def __init__(self) -> None:
        super().__init__()
        self.block = Dropping()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.block(x)

    def blocks(self) -> list[nn.Module]:
        return [self.block]


@pytest.mark.parametrize("backbone", ["tiny", "resnet18", "dropping"])
def test_recomputed_blocks_change_nothing(backbone: str) -> None:
    module = Blocks() if backbone == "dropping" else build_backbone(backbone)
    size = 64 if backbone == "resnet18" else 32
    expected = loss_gradients_buffers(build(module), size)
    model = build(module)
    set_execution(model, TrainConfig(activation_checkpointing=True), torch.device("cpu"))
    found = loss_gradients_buffers(model, size)
    assert found.keys() == expected.keys()
    assert [name for name, value in expected.items() if not torch.equal(found[name], value)] == []
    assert int(model.online.get_buffer("projector.norm.num_batches_tracked")) == 2
    if backbone == "dropping":
        online, target = model.online.backbone.block, model.target.backbone.block
        assert (online.calls, target.calls) == (4, 2)  # two views, each of them twice
        assert copy.deepcopy(online)(torch.randn(2, 3, 8, 8)).shape == (2, 8, 2, 2)
        assert online.calls == 4


def test_a_backbone_without_blocks_is_refused() -> None:
    with pytest.raises(ConfigError, match="blocks"):
        recompute_blocks(nn.Conv2d(3, 8, 3))


def test_compiling_needs_a_compiler_and_excludes_recomputation(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXX", "no-such-compiler")
    from torch._inductor import config  # slow to import

    missing = config.patch({"cpp.cxx": (None, "no-such-compiler")})  # monkeypatch would leave it deleted
    with missing, pytest.raises(ConfigError, match=r"needs a C\+\+ compiler"):
        set_execution(build(), TrainConfig(compile=True), torch.device("cpu"))
    with pytest.raises(ConfigError, match="choose one"):
        load_config(None, ["train.compile=true", "train.activation_checkpointing=true"])


def test_compiling_for_a_gpu_needs_triton(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ConfigError, match="needs Triton"):
        set_execution(build(), TrainConfig(compile=True), torch.device("cuda"))


def test_backbones_and_heads_are_what_is_compiled(monkeypatch: pytest.MonkeyPatch) -> None:
    compiled: list[nn.Module] = []
    monkeypatch.setattr(nn.Module, "compile", lambda self: compiled.append(self))
    monkeypatch.setattr(execution, "_need_compiler", lambda: None)
    model = build()
    set_execution(model, TrainConfig(compile=True), torch.device("cpu"))
    assert len(compiled) == 10
    assert model.target.backbone in compiled
    assert model.online.decoder not in compiled


@pytest.mark.slow
def test_a_compiled_model_has_the_same_loss_and_gradients() -> None:
    expected = loss_gradients_buffers(build())
    model = build()
    set_execution(model, TrainConfig(compile=True), torch.device("cpu"))
    found = loss_gradients_buffers(model)
    assert found["loss"].item() == pytest.approx(expected["loss"].item(), rel=1e-5)
    for name, value in expected.items():
        difference = (found[name].double() - value.double()).norm() / value.double().norm().clamp_min(1e-2)
        assert difference < 1e-4, name


def test_a_kernel_that_fails_on_another_rank_is_left_out_here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dispatch, "_distrusted", {})
    monkeypatch.setattr(execution, "from_all", lambda mine: [mine, {"relation": "results differ by 2"}])
    execution.trust_kernels(torch.device("cpu"))
    assert dispatch._distrusted == {"relation": "self-check of rank 1: results differ by 2"}


def test_a_user_without_a_name_can_compile(monkeypatch: pytest.MonkeyPatch) -> None:
    from torch._inductor.runtime.cache_dir_utils import default_cache_dir

    def nameless(number: int) -> None:
        raise KeyError(f"getpwuid(): uid not found: {number}")

    monkeypatch.setattr(pwd, "getpwuid", nameless)
    for name in ("LOGNAME", "USER", "LNAME", "USERNAME"):
        monkeypatch.setenv(name, "")
    set_execution(build(), TrainConfig(compile=True), torch.device("cpu"))
    assert default_cache_dir().endswith(f"torchinductor_user-{os.getuid()}")
