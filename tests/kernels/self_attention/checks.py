"""Checks of the self-attention kernels against the reference in float64, shared by interpreter and GPU."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from fra_dist.kernels import describe, dispatch, force
from fra_dist.kernels.self_attention import self_attention

TOLERANCE = {torch.float32: 1e-5, torch.float16: 3e-3, torch.bfloat16: 2e-2}
"""Largest error over the largest value."""
NAMES = ("out", "d qk", "d v")


@dataclass(frozen=True)
class Case:
    images: int
    queries: int
    heads: int
    width: int
    """Width of a head."""
    dropout: float = 0.0
    views: int = 1
    call: int = 3
    dtype: torch.dtype = torch.float32
    sharp: float = 1.0
    """How large the queries are."""
    strided: bool = False

    def inputs(self, device: str = "cpu") -> list[Tensor]:
        """qk and v."""
        generator = torch.Generator().manual_seed(self.queries + self.width)
        rows = self.views * self.images, self.queries
        q, k, v = (torch.randn(*rows, self.heads * self.width, generator=generator) for _ in range(3))
        tensors = [x.to(device, self.dtype) for x in (torch.cat([q * self.sharp, k], dim=2), v)]
        return [x.transpose(0, 1).contiguous().transpose(0, 1) for x in tensors] if self.strided else tensors

    def keys(self, device: str = "cpu") -> Tensor:
        generator = torch.Generator().manual_seed(self.images)
        return torch.randint(-(2**63), 2**63 - 1, (self.images,), generator=generator).to(device)

    def numbers(self, device: str = "cpu") -> dict[str, Any]:
        """The arguments of dropout."""
        return {"dropout": self.dropout, "keys": self.keys(device), "call": self.call, "span": 6}


CASES = {
    "decoder": Case(3, 8, 8, 32, dropout=0.1, views=2),
    "no dropout": Case(3, 8, 4, 16),
    "five queries": Case(2, 5, 8, 12, dropout=0.3),
    "one query": Case(2, 1, 3, 20, dropout=0.5),
    "heads left over": Case(2, 7, 5, 33, dropout=0.2, views=3),
    "17 queries": Case(2, 17, 3, 16, dropout=0.2),
    "32 queries": Case(1, 32, 2, 24, dropout=0.1),
    "64 queries": Case(1, 64, 2, 24, dropout=0.1, dtype=torch.bfloat16),
    "wide": Case(2, 9, 2, 100, dropout=0.1, dtype=torch.float16),
    "narrow": Case(2, 6, 3, 5, dropout=0.1),
    "sharp": Case(2, 9, 3, 40, sharp=40.0),
    "a late call": Case(2, 8, 2, 16, dropout=0.3, call=2_000_000_000),
    "strided": Case(2, 6, 3, 8, dropout=0.1, strided=True),
    "fp16": Case(2, 8, 8, 32, dropout=0.2, dtype=torch.float16),
    "bf16": Case(2, 8, 8, 32, dropout=0.2, dtype=torch.bfloat16),
}


def run(case: Case, inputs: list[Tensor], numbers: dict[str, Any]) -> list[Tensor]:
    """The output and the gradients, in the order of NAMES."""
    tensors = [x.detach().requires_grad_() for x in inputs]
    out = self_attention(*tensors, case.heads, **numbers)
    given = torch.randn(out.shape, generator=torch.Generator().manual_seed(1)).to(out.device, inputs[0].dtype)
    return [out, *torch.autograd.grad(out, tensors, given)]


def check(case: Case, device: str = "cpu") -> None:
    """Raises AssertionError naming the results that are off."""
    inputs = case.inputs(device)
    before = dispatch.launches.copy()
    with force("triton"):
        found = run(case, inputs, case.numbers(device))
    assert dispatch.launches - before == {"self_attention": 1, "self_attention_backward": 1}
    with force("reference"):
        wanted = run(case, [x.double() for x in inputs], case.numbers(device))
    wrong = {}
    for name, ours, exact in zip(NAMES, found, wanted, strict=True):
        limit = TOLERANCE[case.dtype] * max(1.0, case.sharp)
        error = float((ours.double() - exact).abs().max() / exact.abs().max().clamp_min(1.0))
        if not error <= limit:
            wrong[name] = error
    assert not wrong, wrong


def check_choice(device: str = "cpu") -> None:
    """The kernels run by themselves where they can, and the plain path elsewhere."""
    case = CASES["decoder"]
    refused = (
        [x.double() for x in case.inputs(device)],
        Case(1, 33, 2, 4).inputs(device),
        Case(1, 65, 2, 4, dtype=torch.bfloat16).inputs(device),
        Case(1, 3, 1, 65).inputs(device),
        [x[:0] for x in case.inputs(device)],
    )
    for inputs, heads, kernels in ((case.inputs(device), 8, 1), *((inputs, 1, 0) for inputs in refused)):
        before = dispatch.launches.copy()
        assert self_attention(*inputs, heads).shape == inputs[1].shape
        assert sum((dispatch.launches - before).values()) == kernels
        assert describe()["self_attention"].path == ("triton" if kernels else "reference")


def check_without_keys(device: str = "cpu") -> None:
    """Masks come from torch's generator, and differ from call to call and from image to image."""
    qk, v = torch.zeros(4, 16, 64, device=device), torch.ones(4, 16, 32, device=device)
    drawn = []
    for seed in (3, 3, 4):
        torch.manual_seed(seed)
        with force("triton"):
            drawn += [self_attention(qk, v, 2, dropout=0.5) for _ in range(2)]
    assert torch.equal(torch.stack(drawn[:2]), torch.stack(drawn[2:4]))
    different = [drawn[0], drawn[1], drawn[4], drawn[5]]
    assert len({tuple(image.flatten().tolist()) for out in different for image in out}) == 16
    assert abs(float(torch.stack(different).mean()) - 1) < 0.1


OTHERS = ("choice", "without keys", "operators", "torch.compile", "insisted on")
"""Checks of `interpreted.py` beside CASES."""
