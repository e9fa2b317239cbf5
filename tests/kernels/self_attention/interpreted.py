"""Run by the tests in a process of its own; see `interpreting.py`."""

import torch

from fra_dist.errors import ConfigError
from fra_dist.kernels import dispatch
from fra_dist.kernels.self_attention import launch, self_attention
from fra_dist.kernels.self_attention import op as operators
from tests.kernels.interpreting import main
from tests.kernels.self_attention.checks import CASES, Case, check, check_choice, check_without_keys
from tests.kernels.self_attention.mutants import MUTANTS


def check_operators() -> None:
    case = Case(2, 5, 3, 8, dropout=0.3)
    for keys in (case.keys(), None):
        qk, v = (x.requires_grad_() for x in case.inputs())
        numbers = keys, 3, 0.3 if keys is not None else 0.0, 2, 6
        torch.library.opcheck(operators.forward_operator.custom, (qk, v, *numbers))
        plain = qk.detach(), v.detach()
        torch.library.opcheck(operators.backward_operator.custom, (torch.ones_like(plain[1]), *plain, *numbers))


def check_compiled() -> None:
    case = CASES["decoder"]
    inputs, numbers = [x.requires_grad_() for x in case.inputs()], case.numbers()

    def loss(qk: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        return self_attention(qk * 1, v * 1, case.heads, **numbers).sin().sum()

    wanted = torch.autograd.grad(loss(*inputs), inputs)
    before = dispatch.launches.copy()
    found = torch.autograd.grad(torch.compile(loss, fullgraph=True, backend="aot_eager")(*inputs), inputs)
    assert dispatch.launches - before == {"self_attention": 1, "self_attention_backward": 1}
    for result, right in zip(found, wanted, strict=True):
        torch.testing.assert_close(result, right)


def check_insisted_on() -> None:
    for case in (Case(1, 33, 2, 4), Case(1, 3, 2, 65), Case(1, 3, 2, 4, dtype=torch.float64)):
        try:
            with dispatch.force("triton"):
                self_attention(*case.inputs(), case.heads)
        except ConfigError:
            continue
        raise AssertionError("no error")


if __name__ == "__main__":
    cases = {name: lambda case=case: check(case) for name, case in CASES.items()}
    others = {"choice": check_choice, "without keys": check_without_keys, "operators": check_operators}
    main(cases, others | {"torch.compile": check_compiled, "insisted on": check_insisted_on}, launch, MUTANTS)
