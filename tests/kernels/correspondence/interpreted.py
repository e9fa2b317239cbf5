"""Run by the tests in a process of its own; see `interpreting.py`."""

from collections.abc import Callable

import torch
import triton.language as tl

from fra_dist.errors import ConfigError
from fra_dist.kernels import dispatch
from fra_dist.kernels.correspondence import correspondence, launch
from fra_dist.kernels.correspondence.op import backward_operator, forward_operator
from fra_dist.kernels.correspondence.reference import reference
from tests.kernels.correspondence.checks import CASES, Case, check, check_empty_batch, check_not_a_number, error
from tests.kernels.correspondence.mutants import MUTANTS
from tests.kernels.interpreting import main

SETTINGS = {"spread": 0.7, "temperature": 0.1}


def check_split_halves() -> None:
    """The products of bf16 vectors on a GPU, tried in fp16, since the interpreter cannot multiply bf16.

    Gradients go to fp32 tensors, so the halves' exactness shows: 1e-4 if a lower half is lost.
    """
    before = launch._half
    launch._half = lambda vectors: tl.float16
    try:
        worst = _split_errors(*Case(2, 7, 7, 40, dtype=torch.float16).inputs())
    finally:
        launch._half = before
    assert max(worst) < 2e-5, worst


def _split_errors(*inputs: torch.Tensor) -> list[float]:
    found, mass = (inputs[0].new_empty(inputs[0].shape[:2], dtype=torch.float32) for _ in range(2))
    launch.forward(*inputs, 0.7, 0.1, found, mass)
    given = torch.randn_like(found)
    gradients = tuple(torch.empty_like(x, dtype=torch.float32) for x in inputs[:2])
    launch.backward(*inputs, mass, given, 0.7, 0.1, *gradients)
    exact = tuple(x.double().requires_grad_() for x in inputs[:2])
    wanted = reference(*exact, inputs[2].double(), inputs[3].double(), **SETTINGS)
    wanted = wanted, *torch.autograd.grad(wanted, exact, given.double())
    return [error(*pair) for pair in zip((found, *gradients), wanted, strict=True)]


def check_operators() -> None:
    """Schema, autograd, fake tensors and symbolic shapes, by PyTorch's own check of both operators."""
    queries, keys, rows, columns = CASES["small"].inputs()
    torch.library.opcheck(
        forward_operator.custom, (queries.requires_grad_(), keys.requires_grad_(), rows, columns, 0.7, 0.1)
    )
    plain = queries.detach(), keys.detach(), rows, columns
    found, mass = forward_operator(*plain, 0.7, 0.1)
    torch.library.opcheck(backward_operator.custom, (torch.ones_like(found), *plain, mass, 0.7, 0.1))


def check_compiled() -> None:
    """torch.compile without graph breaks gives the eager results, from the kernels."""
    *vectors, rows, columns = CASES["small"].inputs()
    inputs = tuple(x.requires_grad_() for x in vectors)

    def loss(queries: torch.Tensor, keys: torch.Tensor) -> torch.Tensor:
        return correspondence(queries * 1, keys * 1, rows, columns, **SETTINGS).sin().sum()

    wanted = torch.autograd.grad(loss(*inputs), inputs)
    before = dispatch.launches.copy()
    compiled = torch.autograd.grad(torch.compile(loss, fullgraph=True, backend="aot_eager")(*inputs), inputs)
    assert dispatch.launches - before == {"correspondence": 1, "correspondence_backward": 1}
    for result, right in zip(compiled, wanted, strict=True):
        torch.testing.assert_close(result, right)


def check_refusals() -> None:
    """What the kernels cannot take goes to the reference, or is an error if they are insisted on."""
    queries, keys, rows, columns = CASES["small"].inputs()
    wide = Case(1, 2, 2, 4097).inputs()
    for inputs in ((queries.double(), keys, rows, columns), (queries.half(), keys, rows, columns), wide):
        before = dispatch.launches.copy()
        correspondence(*inputs, **SETTINGS)
        assert dispatch.launches == before
        try:
            with dispatch.force("triton"):
                correspondence(*inputs, **SETTINGS)
        except ConfigError:
            continue
        raise AssertionError("no error")


def cases() -> dict[str, Callable[[], None]]:
    return {name: lambda case=case: check(case) for name, case in CASES.items()} | {"NaN": check_not_a_number}


def others() -> dict[str, Callable[[], None]]:
    return {
        "split halves": check_split_halves,
        "empty batch": check_empty_batch,
        "operators": check_operators,
        "torch.compile": check_compiled,
        "refusals": check_refusals,
    }


if __name__ == "__main__":
    main(cases(), others(), launch, MUTANTS)
