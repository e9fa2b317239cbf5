"""Run by the tests in a process of its own; see `interpreting.py`."""

import pytest
import torch

from fra_dist.distributed import SINGLE
from fra_dist.errors import ConfigError
from fra_dist.kernels import dispatch
from fra_dist.kernels.pooled_norm import launch, pooled_norm
from fra_dist.kernels.pooled_norm import op as operators
from tests.kernels.interpreting import main
from tests.kernels.pooled_norm.checks import (
    CASES,
    Case,
    check,
    check_not_a_number,
    check_rounded_like_a_map,
    check_running_with_the_norm,
)
from tests.kernels.pooled_norm.mutants import MUTANTS


def check_few_splits() -> None:
    """Several tiles a program, and groups whose rows are no whole number of parts."""
    before = launch.MOST_SPLITS, launch.TILE
    launch.MOST_SPLITS, launch.TILE = 2, 256
    try:
        check(Case(6, 20, 7, 11))
    finally:
        launch.MOST_SPLITS, launch.TILE = before


def check_operators() -> None:
    x, weight, _ = CASES["odd sides"].inputs()
    values = torch.randn(3, x.shape[1]), torch.rand(3, x.shape[1]) + 0.5
    torch.library.opcheck(operators.pool.custom, (x, *values))
    given, at = launch.pool(x, *values)
    torch.library.opcheck(operators.sums.custom, (given, at, x, *values))
    torch.library.opcheck(operators.gradients.custom, (given, at, x, *values, weight.expand(3, -1).clone(), *values))


def check_compiled() -> None:
    """torch.compile takes batch norm and the pooling apart."""
    inputs = [tensor.requires_grad_() for tensor in CASES["small"].inputs()]

    def loss(*tensors: torch.Tensor) -> torch.Tensor:
        return pooled_norm(*(t * 1 for t in tensors), cross=SINGLE, groups=2).sin().sum()

    wanted = torch.autograd.grad(loss(*inputs), inputs)
    before = dispatch.launches.copy()
    found = torch.autograd.grad(torch.compile(loss, fullgraph=True, backend="aot_eager")(*inputs), inputs)
    assert not [name for name in dispatch.launches - before if name.startswith("pooled_norm")]
    for result, right in zip(found, wanted, strict=True):
        torch.testing.assert_close(result, right)


def check_refusals() -> None:
    x, weight, bias = CASES["small"].inputs()
    for kernel in ("batch_norm", "pooled_norm"):
        with dispatch.aside():
            dispatch.distrust(kernel, "tried out")
            before = dispatch.launches.copy()
            pooled_norm(x, weight, bias, cross=SINGLE)
            del dispatch._distrusted[kernel]
        assert not [name for name in dispatch.launches - before if name.startswith(kernel)]
    with pytest.raises(ValueError, match="of 3 groups"):
        pooled_norm(x, weight, bias, cross=SINGLE, groups=3)
    with pytest.raises(ValueError, match=r"weight \(C,\)"):
        pooled_norm(x, weight[1:], bias, cross=SINGLE)
    for odd in (x.double(), x.contiguous()):
        before = dispatch.launches.copy()
        pooled_norm(odd, weight.to(odd.dtype), bias.to(odd.dtype), cross=SINGLE)
        assert dispatch.launches == before
        with dispatch.force("triton"), pytest.raises(ConfigError, match="insisted on"):
            pooled_norm(odd, weight.to(odd.dtype), bias.to(odd.dtype), cross=SINGLE)


if __name__ == "__main__":
    cases = {name: lambda case=case: check(case) for name, case in CASES.items()}
    more = {"few splits": check_few_splits, "rounded like a map": check_rounded_like_a_map, "NaN": check_not_a_number}
    others = {"operators": check_operators, "torch.compile": check_compiled, "refusals": check_refusals}
    others["running with the norm"] = check_running_with_the_norm
    main(cases | more, others, launch, MUTANTS)
