"""Run by the tests in a process of its own; see `interpreting.py`."""

from collections.abc import Callable

import torch
import triton.language as tl

from fra_dist.errors import ConfigError
from fra_dist.kernels import dispatch
from fra_dist.kernels.region_attention import launch, reference, region_attention
from fra_dist.kernels.region_attention.op import backward_operator, forward_operator
from tests.kernels.interpreting import main
from tests.kernels.region_attention.checks import CASES, Case, check, check_empty_batch, check_not_a_number, error
from tests.kernels.region_attention.mutants import MUTANTS


def check_split_halves() -> None:
    """The products of bf16 maps on a GPU, tried in fp16, since the interpreter cannot multiply bf16.

    Results go to fp32 tensors, so the halves' exactness shows: 1e-4 if a lower half is lost.
    """
    before = launch._half
    launch._half = lambda images: tl.float16
    try:
        worst = _split_errors(*Case(2, 24, 40, 7, 7, 8, dtype=torch.float16).inputs())
    finally:
        launch._half = before
    assert max(worst) < 2e-5, worst


def _split_errors(*inputs: torch.Tensor) -> list[float]:
    similarity, regions, *scales = launch.forward_outputs(*inputs)
    saved = similarity, regions.float(), *scales
    launch.forward(*inputs, 0.3, 1e-7, *saved)
    given = torch.randn_like(similarity), torch.randn_like(saved[1]).to(inputs[0])
    gradients = tuple(torch.empty_like(x, dtype=torch.float32) for x in inputs)
    launch.backward(given, inputs, saved, gradients, 0.3, 1e-7)
    exact = tuple(x.double().requires_grad_() for x in inputs)
    wanted = reference(*exact, 0.3)
    wanted = *wanted, *torch.autograd.grad(wanted, exact, [x.double() for x in given])
    return [error(*pair) for pair in zip((*saved[:2], *gradients), wanted, strict=True)]


def check_few_splits() -> None:
    """Several blocks of pixels per program of the pixels' backward kernel."""
    before = launch.MOST_SPLITS
    launch.MOST_SPLITS = 2
    try:
        check(Case(5, 12, 20, 7, 11, 6))
    finally:
        launch.MOST_SPLITS = before


def check_operators() -> None:
    """Schema, autograd, fake tensors and symbolic shapes, by PyTorch's own check of both operators."""
    features, pixels, prototypes = CASES["one column"].inputs()
    inputs = tuple(x.requires_grad_() for x in (features, pixels, prototypes))
    torch.library.opcheck(forward_operator.custom, (*inputs, 0.3, 1e-7, None))
    torch.library.opcheck(forward_operator.custom, (*inputs, 0.0, 1e-7, torch.tensor(0.3)))
    plain = tuple(x.detach() for x in inputs)
    saved = forward_operator(*plain, 0.3, 1e-7, None)
    arguments = (torch.ones_like(saved[0]), torch.ones_like(saved[1]), *plain, *saved, 0.3, 1e-7, None)
    torch.library.opcheck(backward_operator.custom, arguments)


def check_compiled() -> None:
    """torch.compile without graph breaks gives the eager results, from the kernels."""
    inputs = tuple(x.requires_grad_() for x in CASES["7x7"].inputs())

    def loss(*tensors: torch.Tensor) -> torch.Tensor:
        similarity, regions = region_attention(*(x * 1 for x in tensors), 0.3)
        return similarity.sin().sum() + regions.cos().sum()

    wanted = torch.autograd.grad(loss(*inputs), inputs)
    before = dispatch.launches.copy()
    compiled = torch.autograd.grad(torch.compile(loss, fullgraph=True, backend="aot_eager")(*inputs), inputs)
    assert dispatch.launches - before == {"region_attention": 1, "region_attention_backward": 1}
    for result, right in zip(compiled, wanted, strict=True):
        torch.testing.assert_close(result, right)


def check_refusals() -> None:
    """What the kernels cannot take goes to the reference, or is an error if they are insisted on."""
    features, pixels, prototypes = CASES["7x7"].inputs()
    for inputs in ((features.double(), pixels, prototypes), (features, pixels, torch.randn(65, 240))):
        before = dispatch.launches.copy()
        region_attention(*inputs, 0.3)
        assert dispatch.launches == before
        try:
            with dispatch.force("triton"):
                region_attention(*inputs, 0.3)
        except ConfigError:
            continue
        raise AssertionError("no error")


def cases() -> dict[str, Callable[[], None]]:
    return {name: lambda case=case: check(case) for name, case in CASES.items()} | {
        "split halves": check_split_halves,
        "few splits": check_few_splits,
        "NaN": check_not_a_number,
    }


def others() -> dict[str, Callable[[], None]]:
    return {
        "empty batch": check_empty_batch,
        "operators": check_operators,
        "torch.compile": check_compiled,
        "refusals": check_refusals,
    }


if __name__ == "__main__":
    main(cases(), others(), launch, MUTANTS)
