"""Checks of the kernels of dropout, residual and layer norm against the reference in float64, shared by interpreter and
GPU."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from fra_dist.kernels import describe, dispatch, force
from fra_dist.kernels.residual_norm import residual_norm

TOLERANCE = {torch.float32: 1e-5, torch.float16: 3e-3, torch.bfloat16: 2e-2}
"""Largest error over the largest value."""
NAMES = ("output", "rounded", "asked", "d x", "d u", "d weight", "d bias", "d queries")


@dataclass(frozen=True)
class Case:
    images: int
    queries: int
    width: int
    dropout: float = 0.0
    views: int = 1
    call: int = 3
    dtype: torch.dtype = torch.float32
    """That of the branch and of the linear layers."""
    used: str = "output rounded asked"
    """The results that have a gradient."""
    level: float = 0.0
    """The mean of the rows."""
    eps: float = 1e-5
    strided: bool = False

    def inputs(self, device: str = "cpu") -> list[Tensor]:
        """x, u, weight, bias and queries."""
        generator = torch.Generator().manual_seed(self.queries + self.width)
        rows = self.views * self.images, self.queries, self.width
        shapes = rows, rows, rows[2:], rows[2:], rows[1:]
        x, u, *rest = (torch.randn(*shape, generator=generator) for shape in shapes)
        tensors = [one.to(device) for one in (x + self.level, u.to(self.dtype), *rest)]
        return [y.t().contiguous().t() if y.dim() == 2 else _strided(y) for y in tensors] if self.strided else tensors

    def keys(self, device: str = "cpu") -> Tensor:
        generator = torch.Generator().manual_seed(self.images)
        return torch.randint(-(2**63), 2**63 - 1, (self.images,), generator=generator).to(device)

    def numbers(self, device: str = "cpu") -> dict[str, Any]:
        """All other arguments."""
        drawn = {"dropout": self.dropout, "keys": self.keys(device), "call": self.call, "span": 6}
        return {"eps": self.eps, "rounded": True, "dtype": self.dtype, **drawn}


def _strided(x: Tensor) -> Tensor:
    return x.transpose(0, 1).contiguous().transpose(0, 1) if x.dim() == 3 else x.repeat_interleave(2)[::2]


CASES = {
    "decoder": Case(3, 8, 64, dropout=0.1, views=2),
    "no dropout": Case(3, 5, 12),
    "one query": Case(4, 1, 20, dropout=0.5),
    "one image": Case(1, 3, 33, dropout=0.3),
    "one number": Case(2, 3, 1),
    "odd width": Case(2, 5, 100, dropout=0.2, views=3),
    "more rows than programs": Case(4, 130, 6, dropout=0.1),
    "wide": Case(1, 2, 500, dropout=0.1),
    "far from zero": Case(2, 4, 40, level=30.0),
    "a large epsilon": Case(2, 4, 40, eps=1.0),
    "output alone": Case(2, 4, 24, dropout=0.2, used="output"),
    "rounded alone": Case(2, 4, 24, dropout=0.2, used="rounded", dtype=torch.bfloat16),
    "asked alone": Case(2, 4, 24, dropout=0.2, used="asked", dtype=torch.bfloat16),
    "a late call": Case(2, 4, 16, dropout=0.3, call=2_000_000_000),
    "strided": Case(2, 6, 24, dropout=0.1, strided=True),
    "fp16": Case(2, 8, 64, dropout=0.2, dtype=torch.float16),
    "bf16": Case(2, 8, 64, dropout=0.2, dtype=torch.bfloat16),
}


def run(case: Case, inputs: list[Tensor], numbers: dict[str, Any]) -> list[Tensor]:
    """The results and the gradients, in the order of NAMES; zeros for gradients that there are not."""
    x, u, weight, bias, queries = tensors = [one.detach().requires_grad_() for one in inputs]
    out = residual_norm(x, u, weight, bias, queries=queries, **numbers)
    generator = torch.Generator().manual_seed(1)
    given = [torch.randn(x.shape, generator=generator).to(case.dtype).to(x.device) for _ in out]
    used = [name in case.used.split() for name in out._fields]
    results = [one for one, use in zip(out, used, strict=True) if use]
    given = [one.to(result.dtype) for one, use, result in zip(given, used, out, strict=True) if use]
    gradients = torch.autograd.grad(results, tensors, given, allow_unused=True, materialize_grads=True)
    return [*out, *gradients]


def check(case: Case, device: str = "cpu") -> None:
    """Raises AssertionError naming the results that are off."""
    inputs = case.inputs(device)
    before = dispatch.launches.copy()
    with force("triton"):
        found = run(case, inputs, case.numbers(device))
    assert dispatch.launches - before == {"residual_norm": 1, "residual_norm_backward": 1}
    dtypes = [torch.float32, case.dtype, case.dtype, torch.float32, case.dtype, *[torch.float32] * 3]
    assert [one.dtype for one in found] == dtypes
    with force("reference"):
        wanted = run(case, [x.double() for x in inputs], case.numbers(device))
    wrong = {}
    for name, dtype, ours, exact in zip(NAMES, dtypes, found, wanted, strict=True):
        limit = TOLERANCE[dtype] * max(1.0, case.level)
        error = float((ours.double() - exact).abs().max() / exact.abs().max().clamp_min(1.0))
        if not error <= limit:
            wrong[name] = error
    assert not wrong, wrong


def check_choice(device: str = "cpu") -> None:
    """The kernels run by themselves where they can, and the plain path elsewhere."""
    case = CASES["decoder"]
    refused = (
        [x.double() for x in case.inputs(device)],
        [x.half() for x in case.inputs(device)],
        Case(1, 2, 513).inputs(device),
        [x[:0] if x.dim() == 3 else x for x in case.inputs(device)],
    )
    for inputs, kernels in ((case.inputs(device), 1), *((inputs, 0) for inputs in refused)):
        x, u, weight, bias, queries = inputs
        before = dispatch.launches.copy()
        out = residual_norm(x, u, weight, bias, queries=queries)
        assert out.output.shape == x.shape
        assert out.rounded is out.output
        assert out.asked is not None
        assert residual_norm(x, u, weight, bias).asked is None
        assert sum((dispatch.launches - before).values()) == 2 * kernels
        assert describe()["residual_norm"].path == ("triton" if kernels else "reference")


def check_without_keys(device: str = "cpu") -> None:
    """Masks come from torch's generator, and differ from call to call and from image to image."""
    x, u = torch.zeros(4, 16, 32, device=device), torch.ones(4, 16, 32, device=device)
    drawn = []
    for seed in (3, 3, 4):
        torch.manual_seed(seed)
        with force("triton"):
            drawn += [residual_norm(x, u, x[0, 0] + 1, x[0, 0], dropout=0.5).output for _ in range(2)]
    assert torch.equal(torch.stack(drawn[:2]), torch.stack(drawn[2:4]))
    different = [drawn[0], drawn[1], drawn[4], drawn[5]]
    assert len({tuple(image.flatten().tolist()) for out in different for image in out}) == 16
    assert abs(float((torch.stack(different) > 0).float().mean()) - 0.5) < 0.02


OTHERS = ("choice", "without keys", "operators", "torch.compile", "insisted on")
"""Checks of `interpreted.py` beside CASES."""
