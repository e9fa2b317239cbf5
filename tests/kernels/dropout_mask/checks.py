"""Checks of the Triton kernel of dropout's masks, shared by the interpreter and the GPU: equal to the bit."""

from dataclasses import dataclass

import torch
from torch import Tensor

from fra_dist.kernels import describe, dispatch, force
from fra_dist.kernels.dropout_mask import dropout_mask


@dataclass(frozen=True)
class Case:
    images: int
    elements: tuple[int, ...]
    views: int = 1
    call: int = 1
    span: int = 6
    p: float = 0.1

    def keys(self, device: str) -> Tensor:
        generator = torch.Generator().manual_seed(self.images)
        return torch.randint(-(2**63), 2**63 - 1, (self.images,), generator=generator).to(device)

    def run(self, keys: Tensor) -> Tensor:
        shape = torch.Size((self.views * self.images, *self.elements))
        return dropout_mask(keys, shape, self.call, self.span, self.p)


CASES = {
    "small": Case(5, (3, 7)),
    "two views": Case(4, (8, 130), views=2, call=3),
    "three views": Case(2, (9,), views=3, span=16, call=16),
    "several blocks": Case(2, (3, 1000), p=0.5),
    "one element": Case(1, (1,), p=0.5),
    "a late call": Case(3, (40,), call=2_000_000_000),
    "nothing dropped": Case(2, (50,), p=0.0),
}


def check(case: Case, device: str = "cpu") -> None:
    before = dispatch.launches["dropout_mask"]
    with force("triton"):
        found = case.run(case.keys(device))
    assert dispatch.launches["dropout_mask"] == before + 1
    assert describe()["dropout_mask"].path == "triton"
    with force("reference"):
        wanted = case.run(case.keys("cpu"))
    assert found.dtype == torch.bool
    assert torch.equal(found.cpu(), wanted)


OTHERS = ("operators", "torch.compile")
"""Checks of `interpreted.py` beside CASES."""
