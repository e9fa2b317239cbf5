"""Checks of batch norm's Triton kernels against the reference in float64, shared by the interpreter and the GPU."""

from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from fra_dist.distributed import SINGLE
from fra_dist.kernels import describe, dispatch, force
from fra_dist.kernels.batch_norm import Running, batch_norm, follow, twin
from fra_dist.kernels.batch_norm.arrivals import arrivals
from fra_dist.models.norm import BatchNorm
from fra_dist.types import CrossRank

TOLERANCE = {torch.float32: 2e-6, torch.float16: 1e-3, torch.bfloat16: 1e-2}
"""Largest error over the largest value. Moments and the gradients of weight and bias are fp32 always."""
NAMES = ("y", "mean", "var", "d x", "d weight", "d bias", "d residual")
PASSES = ("moments", "finish", "transform", "sums", "gradients")
ONE_RANK = ("statistics", "transform", "means", "gradients")
"""The passes where no collective has to come in between."""


class Twins:
    """Two ranks with the same images: what each of them gets is what one rank gets alone, by way of the collectives."""

    rank, world = 0, 2

    @staticmethod
    def mean(x: Tensor) -> Tensor:
        return x

    @staticmethod
    def sum(x: Tensor) -> Tensor:
        return 2 * x


@dataclass(frozen=True)
class Case:
    batch: int
    channels: int
    height: int | None
    breadth: int = 1
    groups: int = 2
    relu: bool = True
    residual: bool = True
    dtype: torch.dtype = torch.float32
    size: float = 2.0
    centre: float = 3.0
    eps: float = 1e-5

    def inputs(self, device: str = "cpu") -> list[Tensor]:
        """x, weight, bias and, if there is one, the residual."""
        generator = torch.Generator().manual_seed(self.batch + self.channels)
        shape = (self.batch, self.channels) if self.height is None else self._shape()

        def draw(size: float, centre: float) -> Tensor:
            images = (torch.randn(shape, generator=generator) * size + centre).to(device, self.dtype)
            return images.contiguous(memory_format=torch.channels_last) if images.dim() == 4 else images

        weight, bias = (torch.randn(self.channels, generator=generator).to(device) for _ in range(2))
        maps = [draw(self.size, self.centre)] + [draw(1.0, 0.0)] * self.residual
        return [maps[0], weight, bias, *maps[1:]]

    def _shape(self) -> tuple[int, int, int, int]:
        assert self.height is not None
        return self.batch, self.channels, self.height, self.breadth


CASES = {
    "small": Case(4, 20, 5, 7),
    "three groups": Case(6, 130, 3, 3, groups=3, residual=False),
    "one pixel": Case(8, 3, 1, 1, groups=2, relu=False),
    "ReLU without residual": Case(4, 20, 5, 7, residual=False, centre=0.5),
    "rows": Case(16, 48, None, groups=2, residual=False),
    "rows, plain": Case(12, 16, None, groups=1, relu=False, residual=False),
    "large eps": Case(4, 20, 5, 7, eps=0.5),
    "far from zero": Case(4, 20, 9, 9, size=0.1, centre=40.0),
    "one column": Case(4, 72, 50, 1, relu=False),
    "many rows": Case(2, 17, 33, 21, groups=1),
    "fp16": Case(4, 24, 7, 7, dtype=torch.float16),
    "bf16": Case(4, 24, 7, 7, dtype=torch.bfloat16),
}


def results(case: Case, inputs: list[Tensor], given: Tensor, cross: CrossRank = SINGLE) -> list[Tensor]:
    """Outputs and gradients in the order of NAMES."""
    tensors = [tensor.requires_grad_() for tensor in inputs]
    y, mean, var = batch_norm(*tensors, cross=cross, groups=case.groups, relu=case.relu, eps=case.eps)
    return [y, mean, var, *torch.autograd.grad(y, tensors, given.to(y.dtype))]


def check(case: Case, device: str = "cpu") -> None:
    """Raises AssertionError naming the results that are off, of one rank alone or of one of two."""
    inputs = case.inputs(device)
    given = torch.randn(inputs[0].shape, generator=torch.Generator().manual_seed(1)).to(inputs[0])
    wanted = results(case, [x.double() for x in inputs], given)
    for cross, passes in ((SINGLE, ONE_RANK), (Twins(), PASSES)):
        before = dispatch.launches.copy()
        with force("triton"):
            found = results(case, [x.clone() for x in inputs], given, cross)
        assert dispatch.launches - before == {f"batch_norm_{name}": 1 for name in passes}
        assert describe()["batch_norm"].path == "triton"
        assert not arrivals(inputs[0].get_device()).any()
        _compare(case, found, wanted)


def _compare(case: Case, found: list[Tensor], wanted: list[Tensor]) -> None:
    wrong = {}
    # cancellation: the variance of numbers far from zero is known only so well in fp32
    scale = max(1.0, (case.centre / case.size) ** 2 / 100)
    for name, ours, exact in zip(NAMES, found, wanted, strict=False):
        fp32 = name in ("mean", "var", "d weight", "d bias") and case.dtype == torch.float32
        limit = TOLERANCE[torch.float32 if fp32 else case.dtype] * scale
        error = float((ours.double() - exact).abs().max() / exact.abs().max().clamp_min(1e-3))
        if not error <= limit:
            wrong[name] = error
    assert not wrong, wrong


def check_not_a_number(device: str = "cpu") -> None:
    """NaN reaches the same places as in the reference."""
    case = CASES["small"]
    inputs = case.inputs(device)
    inputs[0].data[1, 3, 2, 1] = torch.nan
    given = torch.ones_like(inputs[0])
    outcomes = []
    for path, cross in (("triton", SINGLE), ("triton", Twins()), ("reference", SINGLE)):
        with force(path):
            outcomes.append(results(case, [x.clone() for x in inputs], given, cross))
    for *ours, right in zip(*outcomes, strict=True):
        assert all(torch.equal(one.isnan(), right.isnan()) for one in ours)


def check_expanded_gradient(device: str = "cpu") -> None:
    """A gradient without memory of its own, as a sum hands back."""
    x, weight, bias, _ = (tensor.requires_grad_() for tensor in CASES["small"].inputs(device))
    with force("triton"):
        y, *_ = batch_norm(x, weight, bias, cross=SINGLE, groups=2)
        y.sum().backward()
    assert x.grad is not None
    assert bias.grad is not None
    torch.testing.assert_close(bias.grad, torch.full_like(bias, float(x.numel() // x.shape[1])))


def check_running_statistics(device: str = "cpu") -> None:
    """They follow each of three groups in turn, more channels than a program has."""
    generator = torch.Generator().manual_seed(3)
    mean, var, *running = (torch.rand(shape, generator=generator) for shape in ((3, 300), (3, 300), (300,), (300,)))
    outcomes = []
    for path in ("triton", "reference"):
        state = [x.clone().to(device) for x in (*running, torch.tensor(5))]
        before = dispatch.launches["batch_norm_follow"]
        with force(path):
            follow(*state, mean.to(device), var.to(device), 10, 0.3)
        assert dispatch.launches["batch_norm_follow"] - before == (path == "triton")
        outcomes.append(state)
    for ours, right in zip(*outcomes, strict=True):
        torch.testing.assert_close(ours, right)
    assert int(outcomes[0][2]) == 8
    state = [x.clone().to(device) for x in (*running, torch.tensor(5))]
    follow(*state, mean.to(device), var.to(device), 10, None)  # the mean of all: not the kernel's
    torch.testing.assert_close(state[0], ((5 * running[0] + mean.sum(dim=0)) / 8).to(device))


def check_running_with_the_norm(device: str = "cpu") -> None:
    """They follow the statistics of a pass, on one rank in the same launch."""
    x, weight, bias = Case(6, 130, 3, 3, groups=3, residual=False).inputs(device)
    generator = torch.Generator().manual_seed(3)
    before = [torch.rand(x.shape[1], generator=generator) for _ in range(2)]
    outcomes = []
    for path in ("triton", "reference"):
        state = Running(*[value.clone().to(device) for value in before], torch.tensor(5, device=device), 0.3)
        launched = dispatch.launches.copy()
        with force(path):
            batch_norm(x, weight, bias, cross=SINGLE, groups=3, running=state)
        assert (dispatch.launches - launched)["batch_norm_follow"] == 0
        assert (dispatch.launches - launched)["batch_norm_statistics"] == (path == "triton")
        outcomes.append(state)
    ours, right = outcomes
    for one, other in zip(ours[:3], right[:3], strict=True):
        torch.testing.assert_close(one, other)
    assert int(ours.tracked) == 8
    mean_of_all = ours._replace(momentum=None)
    batch_norm(x, weight, bias, cross=SINGLE, groups=3, running=mean_of_all)  # not the kernel's
    assert int(mean_of_all.tracked) == 11


def check_two_gradients(device: str = "cpu") -> None:
    """An output used twice, by itself and by its twin: to the bit what comes of its gradients added up and rectified
    one operation after the other; so with either gradient alone. With neither there is none."""
    for dtype in (torch.bfloat16, torch.float16, torch.float32):
        case = Case(4, 24, 7, 7, dtype=dtype)
        inputs = [x.requires_grad_() for x in case.inputs(device)]
        generator = torch.Generator().manual_seed(1)
        one, other = (torch.randn(inputs[0].shape, generator=generator).to(inputs[0]) for _ in range(2))
        for cross in (SINGLE, Twins()):
            with force("triton"):
                y = _output(case, inputs, cross)
                assert twin(y) is not y
                assert torch.equal(twin(y), y)
                found = {
                    "both": torch.autograd.grad((y, twin(y)), inputs, (one, other)),
                    "first": torch.autograd.grad(_output(case, inputs, cross), inputs, one),
                    "second": torch.autograd.grad(twin(_output(case, inputs, cross)), inputs, one),
                }
                wanted = dict.fromkeys(("first", "second"), _step_by_step(case, inputs, one, y, cross))
                wanted["both"] = _step_by_step(case, inputs, one + other, y, cross)
                for name, gradients in found.items():
                    for gradient, right in zip(gradients, wanted[name], strict=True):
                        assert torch.equal(gradient, right), (dtype, cross, name)
                y = _output(case, inputs, cross)
                none = _NoGradient.apply(y) + _NoGradient.apply(twin(y))
                assert torch.autograd.grad(none.sum(), inputs, allow_unused=True) == (None,) * len(inputs)
    with force("triton"):
        y = _output(case, inputs, SINGLE)
        second = twin(y)
        y.mul_(2)  # of which the twin does not know
        with pytest.raises(RuntimeError, match="modified by an inplace operation"):
            torch.autograd.grad(second, inputs, one)
    with torch.no_grad(), force("triton"):
        y = _output(case, inputs, SINGLE)
        assert twin(y) is y
    with force("reference"):
        y = _output(case, inputs, SINGLE)
        assert twin(y) is y


def check_convolved(device: str = "cpu") -> None:
    """A norm that goes into a convolution: to the bit what both give as operations of their own, for any kind of
    convolution, on one rank and several, with the rectified map kept by neither."""
    convolutions = (
        {"kernel_size": 3, "padding": 1},
        {"kernel_size": 3, "stride": 2, "padding": (1, 0), "dilation": (1, 2), "groups": 2},
        {"kernel_size": 1},
    )
    for options in convolutions:
        for dtype in (torch.bfloat16, torch.float32):
            for cross in (SINGLE, Twins()):
                norm, convolution, x = _norm_and_convolution(device, dtype, cross, options)
                with force("triton"), torch.backends.cudnn.flags(deterministic=True):
                    ours, kept = _into(norm, convolution, x)
                    handle = convolution.register_forward_hook(lambda *_: None)  # who listens hears the convolution
                    apart, more = _into(norm, convolution, x)
                    handle.remove()
                assert all(torch.equal(a, b) for a, b in zip(ours, apart, strict=True)), (options, dtype, cross)
                assert (kept, more) == (1, 2), (kept, more)  # x; and y, as the input of the convolution
    with force("triton"):
        norm.groups = 4
        with pytest.raises(ValueError, match="a batch of 6 cannot be 4 groups"):
            norm.into(convolution, x)
        norm.groups = 2
        convolution.weight.requires_grad_(False)
        before = dispatch.launches["batch_norm_sums"]
        z = norm.into(convolution, x.requires_grad_())
        (dx,) = torch.autograd.grad(z.sum(), x)
        assert dispatch.launches["batch_norm_sums"] == before + 1
        right = torch.autograd.grad(convolution(norm(x, relu=True)).sum(), x)[0]
        assert torch.equal(dx, right)


def _norm_and_convolution(
    device: str, dtype: torch.dtype, cross: CrossRank, options: dict[str, Any]
) -> tuple[BatchNorm, nn.Conv2d, Tensor]:
    torch.manual_seed(2)
    norm, convolution = BatchNorm(24, cross), nn.Conv2d(24, 16, bias=False, **options)
    nn.init.normal_(norm.weight)
    nn.init.normal_(norm.bias)
    norm.groups = 2
    layout = torch.channels_last
    x = torch.randn(6, 24, 9, 7).to(device, dtype).contiguous(memory_format=layout)
    return norm.to(device), convolution.to(device, dtype, memory_format=layout), x


def _into(norm: BatchNorm, convolution: nn.Conv2d, x: Tensor) -> tuple[list[Tensor], int]:
    """Output, gradients and running statistics; and how many tensors as large as x autograd kept."""
    assert norm.running_mean is not None
    assert norm.running_var is not None
    norm.reset_running_stats()
    kept: set[int] = set()

    def keep(tensor: Tensor) -> Tensor:
        if tensor.shape == x.shape:
            kept.add(tensor.data_ptr())
        return tensor

    x = x.detach().requires_grad_()
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        z = norm.into(convolution, x)
    given = torch.linspace(-1, 1, z.numel(), device=z.device).view_as(z).to(z)
    gradients = torch.autograd.grad(z, [x, *norm.parameters(), convolution.weight], given)
    return [z.detach(), *gradients, norm.running_mean.clone(), norm.running_var.clone()], len(kept)


class _NoGradient(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x.clone()

    @staticmethod
    def backward(ctx: Any, given: Tensor) -> None:
        return None


def _output(case: Case, inputs: list[Tensor], cross: CrossRank) -> Tensor:
    return batch_norm(*inputs, cross=cross, groups=case.groups, relu=case.relu, eps=case.eps)[0]


def _step_by_step(case: Case, inputs: list[Tensor], dy: Tensor, y: Tensor, cross: CrossRank) -> list[Tensor]:
    """Gradients where the residual and ReLU are operations of their own, with the sign of y as it is."""
    g = torch.ops.aten.threshold_backward(dy, y.detach(), 0)
    plain, *_ = batch_norm(*inputs[:3], cross=cross, groups=case.groups, eps=case.eps)
    return [*torch.autograd.grad(plain, inputs[:3], g), g]


OTHERS = (
    "few splits",
    "many parts",
    "NaN",
    "expanded gradient",
    "running statistics",
    "running with the norm",
    "two gradients",
    "residual blocks",
    "into a convolution",
    "operators",
    "torch.compile",
    "refusals",
)
"""Checks of `interpreted.py` beside CASES."""
