"""Checks of the agreement's Triton kernels against the reference in float64, shared by the interpreter and the GPU."""

import itertools
from dataclasses import dataclass

import torch
from torch import Tensor

from fra_dist.kernels import describe, dispatch, force
from fra_dist.kernels.agreement import agreement

NAMES = ("both", "first", "second", "apart", "first apart", "second apart", "d first", "d second")
ROUNDING = {torch.float32: 0.0, torch.float16: 1e-3, torch.bfloat16: 1e-2}
"""Of the gradients, which have the predictions' dtype; the rest is fp32."""
LIMIT = 2e-5
"""Of sums in fp32, or of three TF32 products."""


@dataclass(frozen=True)
class Case:
    batch: int
    regions: int
    width: int
    weight: float = 0.7
    dtype: torch.dtype = torch.float32
    targets: torch.dtype | None = None
    """Dtype of the targets, where it is another one."""
    sliced: bool = False
    zeros: bool = False
    """Whether some vectors are zero."""

    def inputs(self, device: str = "cpu") -> list[Tensor]:
        """Two predictions and two targets, of which every vector has another norm."""
        generator = torch.Generator().manual_seed(self.batch + self.regions + self.width)
        shape = (4, self.batch, self.regions, self.width)
        vectors = torch.randn(shape, generator=generator) + torch.randn(
            (*shape[:2], 1, self.width), generator=generator
        )
        vectors *= torch.rand((*shape[:3], 1), generator=generator) + 0.5
        if self.zeros:
            vectors[:, 0, 0] = 0
        vectors = vectors.to(device, self.dtype)
        if self.sliced:
            vectors = torch.stack([vectors, vectors.flip(-1)], dim=-1)[..., 0]
        first, second, *targets = vectors.unbind()
        return [first, second, *(x.to(self.targets or self.dtype) for x in targets)]

    def run(self, *inputs: Tensor) -> list[Tensor]:
        """Results and gradients in the order of NAMES."""
        first, second, *targets = (x.detach() for x in inputs)
        predictions = first.requires_grad_(), second.requires_grad_()
        found = agreement(predictions, (targets[0], targets[1]), self.weight)
        total = found.both * 0.3 + found.first * 0.9 - found.second * 0.4
        return [*found, *torch.autograd.grad(total, predictions)]


CASES = {
    "small": Case(5, 3, 20),
    "published": Case(4, 8, 256),
    "whole images": Case(7, 1, 72, weight=0.0),
    "one image": Case(1, 5, 65),
    "many images": Case(300, 2, 8),
    "many regions": Case(2, 64, 40),
    "two columns": Case(3, 4, 2),
    "zero vectors": Case(3, 4, 24, zeros=True),
    "sliced": Case(3, 5, 24, sliced=True),
    "bf16": Case(4, 8, 100, dtype=torch.bfloat16),
    "fp16": Case(4, 7, 40, dtype=torch.float16),
    "mixed": Case(4, 6, 40, dtype=torch.bfloat16, targets=torch.float32),
}


def check(case: Case, device: str = "cpu") -> None:
    """Raises AssertionError naming the results that are off."""
    inputs = case.inputs(device)
    before = dispatch.launches.copy()
    with force("triton"):
        found = case.run(*inputs)
    assert dispatch.launches - before == {"agreement": 1, "agreement_backward": 1}
    assert describe()["agreement"].path == "triton"
    wanted = case.run(*(x.double() for x in inputs))
    wrong = {}
    for name, ours, exact in zip(NAMES, found, wanted, strict=True):
        assert ours.shape == exact.shape
        assert ours.dtype == (case.dtype if name.startswith("d ") else torch.float32)
        rounding = ROUNDING[case.dtype] if name.startswith("d ") else 0.0
        error = float((ours.detach().double() - exact.detach()).abs().max() / exact.abs().max().clamp_min(1e-3))
        if not error <= LIMIT + rounding:
            wrong[name] = error
    assert not wrong, wrong


def check_one_term(device: str = "cpu") -> None:
    """Each of the terms alone has the reference's gradients, zeros for the other pair."""
    case = CASES["small"]
    inputs = case.inputs(device)
    for name in ("both", "first", "second"):
        gradients = []
        for path in ("triton", "reference"):
            predictions = inputs[0].detach().requires_grad_(), inputs[1].detach().requires_grad_()
            with force(path):
                found = agreement(predictions, (inputs[2], inputs[3]), case.weight)
            assert not found.apart.requires_grad
            given = torch.autograd.grad(getattr(found, name), predictions, allow_unused=True)
            gradients.append([torch.zeros_like(p) if g is None else g for p, g in zip(predictions, given, strict=True)])
        for ours, exact in zip(*gradients, strict=True):
            torch.testing.assert_close(ours, exact, rtol=1e-4, atol=1e-6)


def check_not_a_number(device: str = "cpu") -> None:
    """NaN reaches the same places as in the reference, from any input."""
    for case, number in itertools.product((CASES["small"], CASES["whole images"]), range(4)):
        inputs = case.inputs(device)
        inputs[number][1, -1, 3] = torch.nan
        outcomes = []
        for path in ("triton", "reference"):
            with force(path):
                outcomes.append(case.run(*inputs))
        for name, ours, right in zip(NAMES, *outcomes, strict=True):
            assert torch.equal(ours.isnan(), right.isnan()), (case, number, name)


OTHERS = ("one term", "NaN", "operators", "torch.compile", "refusals")
"""Checks of `interpreted.py` beside CASES."""
