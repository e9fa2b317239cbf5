"""The plain self-attention against PyTorch's own layer, its gradients, and what it refuses."""

import pytest
import torch
from torch.nn import functional

from fra_dist.kernels import describe
from fra_dist.kernels.dropout_mask import dropout_mask
from fra_dist.kernels.self_attention import self_attention
from tests.kernels.self_attention.checks import Case


def double(case: Case) -> list[torch.Tensor]:
    return [x.double().requires_grad_() for x in case.inputs()]


@pytest.mark.parametrize(("queries", "heads", "width"), [(1, 1, 3), (5, 4, 2), (8, 2, 16)])
def test_it_is_the_attention_of_each_head(queries: int, heads: int, width: int) -> None:
    qk, v = double(Case(2, queries, heads, width))
    q, k, x = (y.unflatten(2, (heads, width)).transpose(1, 2) for y in (*qk.chunk(2, dim=2), v))
    wanted = functional.scaled_dot_product_attention(q, k, x).transpose(1, 2).flatten(2)
    torch.testing.assert_close(self_attention(qk, v, heads), wanted)
    assert describe()["self_attention"].path == "reference"


def test_gradients_are_those_of_finite_differences() -> None:
    case = Case(2, 3, 2, 4, dropout=0.3)
    assert torch.autograd.gradcheck(lambda *inputs: self_attention(*inputs, 2, **case.numbers()), double(case))


def test_what_is_dropped_is_what_the_mask_of_the_call_says() -> None:
    case = Case(2, 3, 2, 4, dropout=0.4, views=2)
    qk, v = double(case)
    keep = dropout_mask(case.keys(), torch.Size((4, 2, 3, 3)), case.call, 6, 0.4)
    q, k, x = (y.unflatten(2, (2, 4)).transpose(1, 2) for y in (*qk.chunk(2, dim=2), v))
    weights = (q @ k.transpose(2, 3) / 2).softmax(dim=3) * keep / 0.6
    found = self_attention(qk, v, 2, **case.numbers())
    torch.testing.assert_close(found, (weights @ x).transpose(1, 2).flatten(2))


def test_without_keys_torchs_generator_draws() -> None:
    qk, v = double(Case(2, 3, 2, 4))
    outcomes = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        outcomes.append(self_attention(qk, v, 2, dropout=0.5))
    assert torch.equal(outcomes[0], outcomes[1])
    assert not torch.equal(outcomes[0], outcomes[2])


@pytest.mark.parametrize(("qk", "v"), [((2, 3, 8), (2, 3, 8)), ((2, 3, 16), (2, 4, 8)), ((3, 16), (3, 8))])
def test_shapes_that_do_not_fit_are_refused(qk: tuple[int, ...], v: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="self_attention takes qk"):
        self_attention(torch.zeros(qk), torch.zeros(v), 2)


@pytest.mark.parametrize(("heads", "dropout"), [(3, 0.0), (0, 0.0), (2, 1.0), (2, -0.1)])
def test_heads_and_dropout_that_do_not_fit_are_refused(heads: int, dropout: float) -> None:
    with pytest.raises(ValueError, match="heads, or a dropout"):
        self_attention(torch.zeros(2, 3, 16), torch.zeros(2, 3, 8), heads, dropout=dropout)


@pytest.mark.parametrize("keys", [torch.zeros(3, dtype=torch.int64), torch.zeros(2), torch.zeros(0, dtype=torch.int64)])
def test_keys_of_other_images_are_refused(keys: torch.Tensor) -> None:
    with pytest.raises(ValueError, match="not whole views"):
        self_attention(torch.zeros(2, 3, 16), torch.zeros(2, 3, 8), 2, dropout=0.1, keys=keys)
