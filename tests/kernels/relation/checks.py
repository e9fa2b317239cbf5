"""Checks of the relation's Triton kernels against the reference in float64, shared by the interpreter and the GPU."""

from dataclasses import dataclass

import torch
from torch import Tensor

from fra_dist.distributed import SINGLE
from fra_dist.kernels import describe, dispatch, force
from fra_dist.kernels.relation import balanced_assignment, semantic_relation

NAMES = ("cross entropy", "entropy gap", "share", "d student")
ROUNDING = {torch.float32: 0.0, torch.float16: 1e-3, torch.bfloat16: 1e-2}
"""Of the gradient, which has the similarities' dtype; the rest is fp32."""


@dataclass(frozen=True)
class Case:
    views: int
    batch: int
    regions: int
    height: int
    breadth: int
    student_temperature: float = 0.1
    teacher_temperature: float = 0.04
    rounds: int = 3
    dtype: torch.dtype = torch.float32
    sliced: bool = False
    pull: float = 0.3
    """How much likelier the first region is."""

    def inputs(self, device: str = "cpu") -> tuple[Tensor, Tensor]:
        generator = torch.Generator().manual_seed(self.batch + self.regions)
        shape = (2, self.views, self.batch, self.regions, self.height, self.breadth)
        maps = torch.rand(shape, generator=generator) * 2 - 1
        maps[:, :, :, 0] = (maps[:, :, :, 0] + self.pull).clamp(-1, 1)
        maps = maps.to(device, self.dtype)
        if self.sliced:
            maps = torch.stack([maps, maps.flip(-1)], dim=-1)[..., 0]
        student, teacher = maps.unbind()
        return student, teacher

    def run(self, student: Tensor, teacher: Tensor) -> list[Tensor]:
        """Outputs and the gradient in the order of NAMES."""
        student = student.detach().requires_grad_()
        outputs = self.terms(student, teacher)
        weights = torch.linspace(0.5, 1.5, 2 * self.views, dtype=outputs[0].dtype, device=student.device).view(2, -1)
        total = (outputs[0] * weights[0] + outputs[1] * weights[1]).sum()
        return [*outputs, *torch.autograd.grad(total, student)]

    def terms(self, student: Tensor, teacher: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        return semantic_relation(
            student,
            teacher,
            student_temperature=self.student_temperature,
            teacher_temperature=self.teacher_temperature,
            rounds=self.rounds,
            cross=SINGLE,
        )


CASES = {
    "7x7": Case(2, 5, 8, 7, 7),
    "one pixel": Case(2, 4, 5, 1, 1),
    "one region": Case(1, 3, 1, 5, 2),
    "one image": Case(1, 1, 16, 5, 10),
    "three views": Case(3, 2, 5, 13, 5, rounds=2),
    "no rounds": Case(2, 3, 8, 4, 5, rounds=0),
    "many regions": Case(2, 2, 64, 10, 20),
    "sliced": Case(2, 3, 7, 5, 3, sliced=True),
    "far region": Case(2, 4, 5, 5, 4, teacher_temperature=0.005, pull=-2.0),
    "bf16": Case(2, 4, 8, 7, 7, dtype=torch.bfloat16),
    "fp16": Case(2, 4, 8, 7, 7, dtype=torch.float16),
}


def check(case: Case, device: str = "cpu") -> None:
    """Raises AssertionError naming the results that are off."""
    student, teacher = case.inputs(device)
    before = dispatch.launches.copy()
    with force("triton"):
        found = case.run(student, teacher)
    wanted_launches = {"relation_mass": case.rounds, "relation_shift": case.rounds}
    wanted_launches |= {"relation_terms": 1, "relation_gradient": 1}
    assert dispatch.launches - before == {name: n for name, n in wanted_launches.items() if n}
    assert describe()["relation"].path == "triton"
    wanted = case.run(student.double(), teacher.double())
    wrong = {}
    # logits as large as 1/τ are known to 1e-7 of that
    limit = 2e-6 * max(1.0, 0.02 / case.teacher_temperature)
    for name, ours, exact in zip(NAMES, found, wanted, strict=True):
        rounding = ROUNDING[case.dtype] if name == "d student" else 0.0
        scale = exact.abs().max().clamp_min(1.0 if name == "entropy gap" else 1e-4)
        error = float((ours.double() - exact).abs().max() / scale)
        if not error <= limit + rounding:
            wrong[name] = error
    assert not wrong, wrong


def check_assignment(device: str = "cpu") -> None:
    for name in ("7x7", "far region", "sliced"):
        case = CASES[name]
        _, teacher = case.inputs(device)
        before = dispatch.launches.copy()
        with force("triton"):
            ours = balanced_assignment(teacher.flatten(3), case.teacher_temperature, 3, SINGLE)
        assert dispatch.launches - before == {"relation_mass": 3, "relation_shift": 3}
        exact = balanced_assignment(teacher.flatten(3).double(), case.teacher_temperature, 3, SINGLE)
        torch.testing.assert_close(ours.double(), exact, rtol=1e-4, atol=2e-5)


def check_not_a_number(device: str = "cpu") -> None:
    """NaN reaches the same places as in the reference, from either network."""
    case = CASES["7x7"]
    for number in range(2):
        inputs = case.inputs(device)
        inputs[number][0, 1, 2, 3, 3] = torch.nan
        outcomes = []
        for path in ("triton", "reference"):
            with force(path):
                outcomes.append(case.run(*inputs))
        for name, ours, right in zip(NAMES, *outcomes, strict=True):
            assert torch.equal(ours.isnan(), right.isnan()), (number, name)
        torch.testing.assert_close(outcomes[0][2], outcomes[1][2])


def check_ties(device: str = "cpu") -> None:
    """Equal similarities: the first region gets the pixel."""
    case = Case(2, 3, 5, 4, 4)
    student = torch.full((2, 3, 5, 4, 4), 0.25, device=device)
    with force("triton"):
        _, gap, share = case.terms(student, student)
    torch.testing.assert_close(share[:, 0], torch.ones(2, device=device))
    torch.testing.assert_close(gap, torch.zeros(2, device=device), rtol=0, atol=1e-6)


OTHERS = ("few splits", "assignment", "NaN", "ties", "operators", "torch.compile", "refusals")
"""Checks of `interpreted.py` beside CASES."""
