"""Run by the tests in a process of its own; see `interpreting.py`."""

import torch

from fra_dist.errors import ConfigError
from fra_dist.kernels import dispatch
from fra_dist.kernels.residual_norm import launch, residual_norm
from fra_dist.kernels.residual_norm import op as operators
from tests.kernels.interpreting import main
from tests.kernels.residual_norm.checks import CASES, Case, check, check_choice, check_without_keys
from tests.kernels.residual_norm.mutants import MUTANTS


def check_operators() -> None:
    case = Case(2, 5, 8, dropout=0.3)
    for keys, dtype, wanted in ((case.keys(), torch.bfloat16, True), (None, torch.float32, False)):
        x, u, weight, bias, queries = (one.requires_grad_() for one in case.inputs())
        numbers = 1e-5, 0.3 if keys is not None else 0.0, 2, 6
        code = queries if wanted else None
        words = x, u, weight, bias, code, keys, *numbers, dtype, wanted
        torch.library.opcheck(operators.forward_operator.custom, words)
        plain = x.detach(), u.detach(), weight.detach(), keys
        given = torch.ones_like(plain[0])
        halves = [given.to(dtype) if wanted else None for _ in range(2)]
        torch.library.opcheck(operators.backward_operator.custom, (given, *halves, *plain, *numbers))


def check_compiled() -> None:
    case = CASES["decoder"]
    inputs, numbers = [x.requires_grad_() for x in case.inputs()], case.numbers()

    def loss(x: torch.Tensor, u: torch.Tensor, *rest: torch.Tensor) -> torch.Tensor:
        out = residual_norm(x * 1, u * 1, *rest[:2], queries=rest[2], **numbers)
        assert out.asked is not None
        return out.output.sin().sum() + out.asked.cos().sum()

    wanted = torch.autograd.grad(loss(*inputs), inputs)
    before = dispatch.launches.copy()
    found = torch.autograd.grad(torch.compile(loss, fullgraph=True, backend="aot_eager")(*inputs), inputs)
    assert dispatch.launches - before == {"residual_norm": 1, "residual_norm_backward": 1}
    for result, right in zip(found, wanted, strict=True):
        torch.testing.assert_close(result, right)


def check_insisted_on() -> None:
    wide, double = Case(1, 2, 513).inputs(), Case(1, 3, 8, dtype=torch.float64).inputs()
    for x, u, weight, bias, _ in (wide, double):
        try:
            with dispatch.force("triton"):
                residual_norm(x, u, weight, bias)
        except ConfigError:
            continue
        raise AssertionError("no error")


if __name__ == "__main__":
    cases = {name: lambda case=case: check(case) for name, case in CASES.items()}
    others = {"choice": check_choice, "without keys": check_without_keys, "operators": check_operators}
    main(cases, others | {"torch.compile": check_compiled, "insisted on": check_insisted_on}, launch, MUTANTS)
