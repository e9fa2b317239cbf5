"""Run by the tests in a process of its own; see `interpreting.py`."""

import torch

from fra_dist.distributed import SINGLE
from fra_dist.errors import ConfigError
from fra_dist.kernels import dispatch
from fra_dist.kernels.batch_norm import batch_norm, launch
from fra_dist.kernels.batch_norm import op as operators
from tests.kernels.batch_norm.blocks import check_blocks
from tests.kernels.batch_norm.checks import (
    CASES,
    Case,
    check,
    check_convolved,
    check_expanded_gradient,
    check_not_a_number,
    check_running_statistics,
    check_running_with_the_norm,
    check_two_gradients,
)
from tests.kernels.batch_norm.mutants import MUTANTS
from tests.kernels.interpreting import main


def check_few_splits() -> None:
    """Several tiles a program, and groups whose rows are no whole number of parts."""
    before = launch.MOST_SPLITS, launch.TILE, launch.REDUCED_TILE
    launch.MOST_SPLITS, launch.TILE, launch.REDUCED_TILE = 2, 256, 256
    try:
        check(Case(6, 20, 7, 11))
    finally:
        launch.MOST_SPLITS, launch.TILE, launch.REDUCED_TILE = before


def check_many_parts() -> None:
    """More of them than a program reads at once."""
    before = launch.PARTS, launch.REDUCED_TILE
    launch.PARTS, launch.REDUCED_TILE = 2, 256
    try:
        check(Case(6, 24, 7, 11))
    finally:
        launch.PARTS, launch.REDUCED_TILE = before


def check_operators() -> None:
    x, _, _, residual = CASES["small"].inputs()
    values = torch.randn(2, x.shape[1]), torch.rand(2, x.shape[1]) + 0.5
    torch.library.opcheck(operators.moments.custom, (x, 2))
    numbers = torch.rand(2, 2, x.shape[1], dtype=torch.float64)
    torch.library.opcheck(operators.finish.custom, (numbers, values[0][0], values[1][0], 1e-5))
    running = torch.zeros(x.shape[1]), torch.ones(x.shape[1]), torch.tensor(0)
    torch.library.opcheck(operators.follow.custom, (*running, *values, 0.1, 1.2))
    torch.library.opcheck(operators.transform.custom, (x, *values, residual, True))
    for more in (None, residual):
        torch.library.opcheck(operators.sums.custom, (residual, more, x, x, *values, values[0], None))
    torch.library.opcheck(operators.sums.custom, (residual, None, x, None, *values, *values))
    torch.library.opcheck(operators.sums.custom, (residual, None, x, None, *values, *values, True))
    torch.library.opcheck(operators.gradients.custom, (residual, x, *values, values[0], None, *values))
    torch.library.opcheck(operators.gradients.custom, (residual, x, *values, *values, *values))


def check_compiled() -> None:
    inputs = [tensor.requires_grad_() for tensor in CASES["small"].inputs()]

    def loss(*tensors: torch.Tensor) -> torch.Tensor:
        return batch_norm(*(t * 1 for t in tensors), cross=SINGLE, groups=2, relu=True)[0].sin().sum()

    wanted = torch.autograd.grad(loss(*inputs), inputs)
    before = dispatch.launches.copy()
    compiled = torch.autograd.grad(torch.compile(loss, fullgraph=True, backend="aot_eager")(*inputs), inputs)
    assert sum((dispatch.launches - before).values()) == 5
    for result, right in zip(compiled, wanted, strict=True):
        torch.testing.assert_close(result, right)


def check_refusals() -> None:
    x, weight, bias, _ = CASES["small"].inputs()
    for odd in (x.double(), x.contiguous()):
        before = dispatch.launches.copy()
        batch_norm(odd, weight.to(odd.dtype), bias.to(odd.dtype), cross=SINGLE)
        assert dispatch.launches == before
        try:
            with dispatch.force("triton"):
                batch_norm(odd, weight.to(odd.dtype), bias.to(odd.dtype), cross=SINGLE)
        except ConfigError:
            continue
        raise AssertionError("no error")


if __name__ == "__main__":
    cases = {name: lambda case=case: check(case) for name, case in CASES.items()}
    more = {"few splits": check_few_splits, "NaN": check_not_a_number, "expanded gradient": check_expanded_gradient}
    more["many parts"] = check_many_parts
    more["running statistics"] = check_running_statistics
    more["running with the norm"] = check_running_with_the_norm
    more["two gradients"] = check_two_gradients
    more["into a convolution"] = check_convolved
    others = {"operators": check_operators, "torch.compile": check_compiled, "refusals": check_refusals}
    others["residual blocks"] = check_blocks
    main(cases | more, others, launch, MUTANTS)
