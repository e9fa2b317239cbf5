"""Run by the tests in a process of its own; see `interpreting.py`."""

import torch

from fra_dist.errors import ConfigError
from fra_dist.kernels import dispatch
from fra_dist.kernels.agreement import agreement, launch
from fra_dist.kernels.agreement import op as operators
from tests.kernels.agreement.checks import CASES, check, check_not_a_number, check_one_term
from tests.kernels.agreement.mutants import MUTANTS
from tests.kernels.interpreting import main


def check_operators() -> None:
    inputs = CASES["small"].inputs()
    tensors = tuple(x.requires_grad_(i < 2) for i, x in enumerate(inputs))
    torch.library.opcheck(operators.forward_operator.custom, (*tensors, 0.7))
    plain = tuple(x.detach() for x in inputs)
    *_, cosines, scales = operators.forward_operator(*plain, 0.7)
    given = torch.tensor(0.5), torch.tensor(-1.0)
    torch.library.opcheck(operators.backward_operator.custom, (*given, *plain, cosines, scales, 0.7))


def check_compiled() -> None:
    """torch.compile without graph breaks gives the eager results, from the kernels."""
    first, second, *targets = CASES["small"].inputs()
    predictions = first.requires_grad_(), second.requires_grad_()

    def loss(*tensors: torch.Tensor) -> torch.Tensor:
        one, two, *others = (x * 1 for x in tensors)
        found = agreement((one, two), (others[0], others[1]), 0.7)
        return found.both.sin() + found.second.exp() + found.apart

    wanted = torch.autograd.grad(loss(*predictions, *targets), predictions)
    before = dispatch.launches.copy()
    compiled = torch.compile(loss, fullgraph=True, backend="aot_eager")(*predictions, *targets)
    found = torch.autograd.grad(compiled, predictions)
    assert dispatch.launches - before == {"agreement": 1, "agreement_backward": 1}
    for result, right in zip(found, wanted, strict=True):
        torch.testing.assert_close(result, right)


def check_refusals() -> None:
    """Whatever the kernels cannot take goes to the reference, or is an error when Triton is insisted on."""
    inputs = CASES["small"].inputs()
    wide = [torch.ones(2, 65, 4)] * 4
    mixed = [inputs[0], inputs[1].bfloat16(), *inputs[2:]]
    for first, second, *targets in ([x.double() for x in inputs], wide, mixed):
        before = dispatch.launches.copy()
        agreement((first, second), (targets[0], targets[1]), 0.7)
        assert dispatch.launches == before
        try:
            with dispatch.force("triton"):
                agreement((first, second), (targets[0], targets[1]), 0.7)
        except ConfigError:
            continue
        raise AssertionError("no error")


if __name__ == "__main__":
    cases = {name: lambda case=case: check(case) for name, case in CASES.items()}
    more = {"one term": check_one_term, "NaN": check_not_a_number}
    others = {"operators": check_operators, "torch.compile": check_compiled, "refusals": check_refusals}
    main(cases | more, others, launch, MUTANTS)
