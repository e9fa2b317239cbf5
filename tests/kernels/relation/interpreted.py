"""Run by the tests in a process of its own; see `interpreting.py`."""

import torch

from fra_dist.errors import ConfigError
from fra_dist.kernels import dispatch
from fra_dist.kernels.relation import launch
from fra_dist.kernels.relation import op as operators
from tests.kernels.interpreting import main
from tests.kernels.relation.checks import CASES, Case, check, check_assignment, check_not_a_number, check_ties
from tests.kernels.relation.mutants import MUTANTS


def check_few_splits() -> None:
    """Several tiles a program, and pixels that are no whole number of parts."""
    before = launch.MOST_SPLITS, launch.TILE
    launch.MOST_SPLITS, launch.TILE = 2, 256
    try:
        check(Case(2, 5, 7, 7, 5))
    finally:
        launch.MOST_SPLITS, launch.TILE = before


def check_operators() -> None:
    student, teacher = (x.flatten(3) for x in CASES["one image"].inputs())
    bias, slope = torch.randn(2, *student.shape[:3:2])
    torch.library.opcheck(operators.mass.custom, (teacher, bias, 0.04))
    torch.library.opcheck(operators.shift.custom, (bias, bias.double().exp()))
    torch.library.opcheck(operators.terms.custom, (student, teacher, bias, 0.1, 0.04))
    torch.library.opcheck(operators.gradient.custom, (student, teacher, bias, torch.ones(1), slope, 0.1, 0.04))


def check_compiled() -> None:
    case = CASES["7x7"]
    student, teacher = case.inputs()
    student.requires_grad_()

    def loss(student: torch.Tensor, teacher: torch.Tensor) -> torch.Tensor:
        cross_entropy, gap, share = case.terms(student * 1, teacher * 1)
        return cross_entropy.sin().sum() + gap.exp().sum() + share.sum()

    (wanted,) = torch.autograd.grad(loss(student, teacher), student)
    before = dispatch.launches.copy()
    compiled = torch.compile(loss, fullgraph=True, backend="aot_eager")(student, teacher)
    (found,) = torch.autograd.grad(compiled, student)
    assert sum((dispatch.launches - before).values()) == 2 * case.rounds + 2
    torch.testing.assert_close(found, wanted)


def check_refusals() -> None:
    inputs = CASES["one pixel"].inputs()
    wide = torch.zeros(1, 2, 65, 2, 2)
    for pair in ([x.double() for x in inputs], (wide, wide)):
        before = dispatch.launches.copy()
        CASES["one pixel"].terms(*pair)
        assert dispatch.launches == before
        try:
            with dispatch.force("triton"):
                CASES["one pixel"].terms(*pair)
        except ConfigError:
            continue
        raise AssertionError("no error")


if __name__ == "__main__":
    cases = {name: lambda case=case: check(case) for name, case in CASES.items()}
    more = {"few splits": check_few_splits, "assignment": check_assignment, "NaN": check_not_a_number}
    more["ties"] = check_ties
    others = {"operators": check_operators, "torch.compile": check_compiled, "refusals": check_refusals}
    main(cases | more, others, launch, MUTANTS)
