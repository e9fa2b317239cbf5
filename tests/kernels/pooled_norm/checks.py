"""Checks of the stem's Triton kernels against norm and pooling in float64, shared by the interpreter and the GPU."""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from fra_dist.distributed import SINGLE
from fra_dist.kernels import describe, dispatch, force
from fra_dist.kernels.batch_norm import Running, batch_norm
from fra_dist.kernels.pooled_norm import pooled_norm
from fra_dist.kernels.pooled_norm.small_case import far_apart
from fra_dist.types import CrossRank
from tests.kernels.batch_norm.checks import Twins

TOLERANCE = {torch.float32: 3e-6, torch.float16: 2e-3, torch.bfloat16: 1.5e-2}
"""Largest error over the largest value."""
NAMES = ("p", "d x", "d weight", "d bias")
PASSES = {"pooled_norm_pool", "pooled_norm_sums", "pooled_norm_gradients"}
ONE_RANK, SEVERAL = {"batch_norm_statistics"}, {"batch_norm_moments", "batch_norm_finish"}


@dataclass(frozen=True)
class Case:
    batch: int
    channels: int
    height: int
    breadth: int
    groups: int = 2
    dtype: torch.dtype = torch.float32
    centre: float = 0.5

    def inputs(self, device: str = "cpu") -> list[Tensor]:
        """x, weight and bias. In half precision values of x differ within a window by more than rounding."""
        generator = torch.Generator().manual_seed(self.batch + self.channels)
        shape = self.batch, self.channels, self.height, self.breadth
        x = torch.randn(shape, generator=generator) + self.centre if self.dtype == torch.float32 else far_apart(*shape)
        x = x.to(device, self.dtype).contiguous(memory_format=torch.channels_last)
        return [x, *(torch.randn(self.channels, generator=generator).to(device) for _ in range(2))]

    def given(self, device: str = "cpu") -> Tensor:
        """The gradient of the result."""
        shape = self.batch, self.channels, (self.height + 1) // 2, (self.breadth + 1) // 2
        return torch.randn(shape, generator=torch.Generator().manual_seed(1)).to(device, self.dtype)


CASES = {
    "small": Case(4, 20, 6, 8),
    "odd sides": Case(6, 20, 7, 5, groups=3),
    "one row": Case(4, 3, 1, 9, groups=1),
    "one place": Case(8, 17, 1, 1),
    "more channels than a block": Case(2, 70, 9, 9, groups=1),
    "several tiles": Case(4, 33, 17, 16),
    "fp16": Case(4, 24, 8, 7, dtype=torch.float16),
    "bf16": Case(4, 24, 7, 8, dtype=torch.bfloat16),
}


def results(case: Case, inputs: list[Tensor], given: Tensor, cross: CrossRank = SINGLE) -> list[Tensor]:
    """The result and gradients in the order of NAMES."""
    tensors = [tensor.requires_grad_() for tensor in inputs]
    p = pooled_norm(*tensors, cross=cross, groups=case.groups)
    return [p, *torch.autograd.grad(p, tensors, given.to(p.dtype))]


def check(case: Case, device: str = "cpu") -> None:
    """Raises AssertionError naming the results that are off, of one rank alone or of one of two."""
    inputs, given = case.inputs(device), case.given(device)
    wanted = results(case, [x.double() for x in inputs], given)
    for cross in (SINGLE, Twins()):
        before = dispatch.launches.copy()
        with force("triton"):
            found = results(case, [x.clone() for x in inputs], given, cross)
        assert dispatch.launches - before == dict.fromkeys(PASSES | (ONE_RANK if cross is SINGLE else SEVERAL), 1)
        assert describe()["pooled_norm"].path == "triton"
        wrong = {}
        for name, ours, exact in zip(NAMES, found, wanted, strict=True):
            error = float((ours.double() - exact).abs().max() / exact.abs().max().clamp_min(1e-3))
            if not error <= TOLERANCE[case.dtype]:
                wrong[name] = error
        assert not wrong, wrong


def check_rounded_like_a_map(device: str = "cpu") -> None:
    """To the bit what pooling gives that reads the normalised map, also where rounding makes values of a window equal;
    gradients go to the first of these."""
    for dtype in (torch.bfloat16, torch.float16):
        case = Case(4, 24, 8, 7, dtype=dtype)
        x, weight, bias = (tensor.requires_grad_() for tensor in case.inputs(device))
        with torch.no_grad():
            x.mul_(1 / 64).round_().add_(torch.randn(x.shape, generator=torch.Generator().manual_seed(2)).to(x) / 200)
        for cross in (SINGLE, Twins()):
            with force("triton"):
                p = pooled_norm(x, weight, bias, cross=cross, groups=2)
                found = torch.autograd.grad(p, x, case.given(device))[0]
                y = batch_norm(x, weight, bias, cross=Twins(), groups=2, relu=True)[0]
                apart = functional.max_pool2d(y, 3, stride=2, padding=1)
                wanted = torch.autograd.grad(apart, x, case.given(device))[0]
            assert torch.equal(p, apart)
            error = (found.double() - wanted.double()).abs().max() / wanted.double().abs().max()
            assert error <= 2e-2  # PyTorch rounds the gradient of the normalised map


def check_not_a_number(device: str = "cpu") -> None:
    """NaN reaches the same places as in the reference."""
    inputs, given = CASES["small"].inputs(device), CASES["small"].given(device)
    inputs[0].data[1, 3, 2, 1] = torch.nan
    outcomes = []
    for path in ("triton", "reference"):
        with force(path):
            outcomes.append(results(CASES["small"], [x.clone() for x in inputs], given))
    for one, right in zip(*outcomes, strict=True):
        assert torch.equal(one.isnan(), right.isnan())


def check_running_with_the_norm(device: str = "cpu") -> None:
    """Running statistics follow as those of batch norm do."""
    x, weight, bias = CASES["odd sides"].inputs(device)
    outcomes = []
    for path in ("triton", "reference"):
        zeros, ones = torch.zeros_like(weight), torch.ones_like(weight)
        state = Running(zeros, ones, torch.tensor(5, device=device), 0.3)
        with force(path):
            pooled_norm(x, weight, bias, cross=SINGLE, groups=3, running=state)
        outcomes.append(state)
    for one, other in zip(outcomes[0][:3], outcomes[1][:3], strict=True):
        torch.testing.assert_close(one, other)
    assert int(outcomes[0].tracked) == 8


OTHERS = ("few splits", "rounded like a map", "NaN", "running with the norm", "operators", "torch.compile", "refusals")
"""Checks of `interpreted.py` beside CASES."""
