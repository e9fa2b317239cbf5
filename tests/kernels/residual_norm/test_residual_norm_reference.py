"""The plain path of dropout, residual and layer norm: its formula, its gradients, and what is refused."""

import pytest
import torch
from torch.nn import functional

from fra_dist.kernels import describe
from fra_dist.kernels.dropout_mask import dropout_mask
from fra_dist.kernels.residual_norm import residual_norm
from tests.kernels.residual_norm.checks import Case


def double(case: Case) -> list[torch.Tensor]:
    return [x.double().requires_grad_() for x in case.inputs()]


@pytest.mark.parametrize("width", [1, 5, 32])
def test_it_is_the_layer_norm_of_the_sum(width: int) -> None:
    x, u, weight, bias, queries = double(Case(2, 3, width))
    out = residual_norm(x, u, weight, bias, eps=1e-3, queries=queries, rounded=True, dtype=torch.bfloat16)
    wanted = functional.layer_norm(x + u, (width,), weight, bias, 1e-3)
    assert torch.equal(out.output, wanted)
    assert out.rounded is out.output  # autocast rounds it
    assert out.asked is not None
    assert torch.equal(out.asked, wanted + queries)
    assert describe()["residual_norm"].path == "reference"


def test_gradients_are_those_of_finite_differences() -> None:
    case = Case(2, 3, 4, dropout=0.3)
    numbers = case.numbers()

    def results(x: torch.Tensor, u: torch.Tensor, *rest: torch.Tensor) -> tuple[torch.Tensor, ...]:
        out = residual_norm(x, u, *rest[:2], queries=rest[2], **numbers)
        assert out.asked is not None
        return out.output, out.asked

    assert torch.autograd.gradcheck(results, double(case))


def test_what_is_dropped_is_what_the_mask_of_the_call_says() -> None:
    case = Case(2, 3, 8, dropout=0.4, views=2)
    x, u, weight, bias, _ = double(case)
    keep = dropout_mask(case.keys(), x.shape, case.call, 6, 0.4)
    wanted = functional.layer_norm(x + u * keep / 0.6, (8,), weight, bias)
    torch.testing.assert_close(residual_norm(x, u, weight, bias, **case.numbers()).output, wanted)


def test_without_keys_torchs_generator_draws() -> None:
    x, u, weight, bias, _ = double(Case(2, 3, 8))
    outcomes = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        outcomes.append(residual_norm(x, u, weight, bias, dropout=0.5).output)
    assert torch.equal(outcomes[0], outcomes[1])
    assert not torch.equal(outcomes[0], outcomes[2])


@pytest.mark.parametrize(
    ("x", "u", "weight", "queries"),
    [
        ((2, 3, 8), (2, 4, 8), (8,), (3, 8)),
        ((2, 3, 8), (2, 3, 8), (4,), (3, 8)),
        ((2, 3, 8), (2, 3, 8), (8,), (4, 8)),
        ((3, 8), (3, 8), (8,), (3, 8)),
    ],
)
def test_shapes_that_do_not_fit_are_refused(
    x: tuple[int, ...], u: tuple[int, ...], weight: tuple[int, ...], queries: tuple[int, ...]
) -> None:
    with pytest.raises(ValueError, match="residual_norm takes x and u"):
        residual_norm(*(torch.zeros(shape) for shape in (x, u, weight, weight)), queries=torch.zeros(queries))


def test_numbers_that_make_no_sense_are_refused() -> None:
    x, u, weight, bias, _ = Case(3, 2, 4).inputs()
    with pytest.raises(ValueError, match="not whole views"):
        residual_norm(x, u, weight, bias, dropout=0.1, keys=torch.zeros(2, dtype=torch.int64))
    with pytest.raises(ValueError, match="a dropout of 1"):
        residual_norm(x, u, weight, bias, dropout=1.0)
