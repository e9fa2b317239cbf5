"""Checks of the Triton kernels against `reference` in float64, shared by the interpreter, the mutants and the GPU."""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from fra_dist.kernels import describe, dispatch, force
from fra_dist.kernels.correspondence import correspondence
from fra_dist.kernels.correspondence.reference import reference

TOLERANCE = {torch.float32: 3e-6, torch.float16: 1e-3, torch.bfloat16: 1e-2}
"""Largest error over the largest value. What is found is fp32 always and keeps fp32's."""


@dataclass(frozen=True)
class Case:
    batch: int
    height: int
    breadth: int
    width: int
    dtype: torch.dtype = torch.float32
    spread: float = 0.7
    temperature: float = 0.1
    layout: str = "rows"
    scale: float = 1.0
    """Cells of the other map that a cell of this one takes up."""

    def inputs(self, device: str = "cpu") -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Queries, keys, places of rows and of columns; some places lie outside of the other map."""
        generator = torch.Generator().manual_seed(self.height * 100 + self.width)

        def draw(*shape: int) -> Tensor:
            return torch.randn(*shape, generator=generator)

        vectors = [functional.normalize(draw(self.batch, self.height * self.breadth, self.width), dim=2) for _ in "qk"]
        vectors = [self._lay(x.to(device, self.dtype)) for x in vectors]
        lines = [(torch.arange(n) * self.scale + 0.5 * draw(self.batch, 1) - 1) for n in (self.height, self.breadth)]
        return vectors[0], vectors[1], lines[0].to(device), lines[1].flip(1).to(device)

    def _lay(self, x: Tensor) -> Tensor:
        """As a planar map gives them: the pixels of a channel side by side."""
        return x.transpose(1, 2).contiguous().transpose(1, 2) if self.layout == "planar" else x


CASES = {
    "small": Case(2, 3, 3, 20),
    "7x7": Case(3, 7, 7, 240),
    "one pixel": Case(2, 1, 1, 24),
    "5x13, planar": Case(2, 5, 13, 24, layout="planar"),
    "10x20": Case(1, 10, 20, 33),
    "one row": Case(2, 1, 65, 20),
    "one column": Case(2, 50, 1, 16, temperature=0.5),
    "wide": Case(1, 6, 11, 300),
    "one number": Case(2, 4, 5, 1),
    "sharp": Case(2, 9, 11, 20, temperature=0.002, spread=0.2),
    "far outside": Case(2, 7, 9, 20, scale=2.0),
    "fp16": Case(2, 7, 7, 40, dtype=torch.float16),
    "bf16": Case(2, 7, 7, 40, dtype=torch.bfloat16),
}


def compare(case: Case, device: str = "cpu") -> dict[str, float]:
    """Errors of results and gradients relative to the largest value, from kernels that provably ran."""
    *vectors, rows, columns = case.inputs(device)
    inputs = tuple(x.requires_grad_() for x in vectors)
    settings = {"spread": case.spread, "temperature": case.temperature}
    before = dispatch.launches.copy()
    with force("triton"):
        found = correspondence(*inputs, rows, columns, **settings)
    given = torch.randn(found.shape, generator=torch.Generator().manual_seed(1)).to(found)
    results = found, *torch.autograd.grad(found, inputs, given)
    assert dispatch.launches - before == {"correspondence": 1, "correspondence_backward": 1}
    assert describe()["correspondence"].path == "triton"
    assert [x.dtype for x in results] == [torch.float32, case.dtype, case.dtype]
    exact = tuple(x.detach().double().requires_grad_() for x in inputs)
    wanted = reference(*exact, rows.double(), columns.double(), **settings)
    wanted = wanted, *torch.autograd.grad(wanted, exact, given.double())
    return {n: error(*pair) for n, *pair in zip(("found", "d queries", "d keys"), results, wanted, strict=True)}


def check(case: Case, device: str = "cpu") -> None:
    """Raises AssertionError naming the results that are off."""
    errors = compare(case, device)
    steepness = max(1.0, 0.1 / case.temperature)  # errors of the cosines are divided by the temperature
    limit = dict.fromkeys(errors, TOLERANCE[case.dtype] * steepness) | {"found": TOLERANCE[torch.float32] * steepness}
    wrong = {name: error for name, error in errors.items() if not error <= limit[name]}
    assert not wrong, wrong


def check_not_a_number(device: str = "cpu") -> None:
    """NaN in queries and in keys reaches the same places as in the reference."""
    for spoiled in range(2):
        *vectors, rows, columns = CASES["7x7"].inputs(device)
        vectors[spoiled][1, 3, 2] = torch.nan
        inputs = tuple(x.requires_grad_() for x in vectors)
        seen = []
        for path in ("triton", "reference"):
            with force(path):
                found = correspondence(*inputs, rows, columns, spread=0.7, temperature=0.1)
            seen.append((found, *torch.autograd.grad(found.sum(), inputs)))
        for result, right in zip(*seen, strict=True):
            assert torch.equal(result.isnan(), right.isnan()), f"NaN in input {spoiled}"


def check_empty_batch(device: str = "cpu") -> None:
    *vectors, rows, columns = Case(0, 3, 3, 20).inputs(device)
    inputs = tuple(x.requires_grad_() for x in vectors)
    with force("triton"):
        found = correspondence(*inputs, rows, columns, spread=0.7, temperature=0.1)
    assert found.shape == (0, 9)
    for gradient, tensor in zip(torch.autograd.grad(found.sum(), inputs), inputs, strict=True):
        assert gradient.shape == tensor.shape


def error(result: Tensor, wanted: Tensor) -> float:
    """Largest difference over the largest value wanted."""
    return float(
        (result.detach().double() - wanted.detach()).abs().max() / wanted.detach().abs().max().clamp_min(1e-300)
    )


OTHERS = ("NaN", "split halves", "empty batch", "operators", "torch.compile", "refusals")
"""Checks of `interpreted.py` beside CASES."""
