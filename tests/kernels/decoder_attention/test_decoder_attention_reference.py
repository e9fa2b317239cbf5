"""The plain attention of the decoder against PyTorch's own layer, and its gradients against finite differences."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fra_dist.kernels import describe
from fra_dist.kernels.decoder_attention import decoder_attention, few, reference
from tests.kernels.decoder_attention.checks import layer

SIZES = st.tuples(st.integers(1, 3), st.integers(1, 9), st.integers(1, 20), st.sampled_from([8, 24]))


@given(SIZES, st.sampled_from([1, 4]))
def test_it_is_multi_head_attention(size: tuple[int, int, int, int], heads: int) -> None:
    """With few queries, where the weights are moved to their side, and with many, where they are not."""
    queries, memory, code, weight, bias = (x.double() for x in layer(*size))
    attention = torch.nn.MultiheadAttention(size[3], heads, batch_first=True, dtype=torch.float64)
    with torch.no_grad():
        attention.in_proj_weight.copy_(weight)
        attention.in_proj_bias.copy_(bias)
        wanted, _ = attention(queries, memory + code, memory)
        ours = attention.out_proj(decoder_attention(queries, memory, code, weight, bias, heads))
    torch.testing.assert_close(ours, wanted)


def test_both_ways_are_in_the_test_above() -> None:
    assert few(1, 4, 8)
    assert not few(9, 4, 24)


@pytest.mark.parametrize("queries", [2, 9])
def test_gradients_are_those_of_finite_differences(queries: int) -> None:
    tensors = [x.double() for x in layer(2, queries, 5, 8)]
    tensors = [x.requires_grad_(i != 2) for i, x in enumerate(tensors)]
    assert torch.autograd.gradcheck(lambda *inputs: decoder_attention(*inputs, 2), tensors)


def test_dropped_weights_are_dropped_and_the_others_scaled() -> None:
    torch.manual_seed(0)
    rows, memory, code = torch.randn(1, 2, 4), torch.randn(1, 3, 4), torch.zeros(3, 4)
    keep = torch.tensor([[[True, False, True], [False, False, False]]])
    pooled, total = reference(rows, memory, code, keep, 0.5, 2.0)
    weights = (rows[0, 0] @ memory[0].T * 0.5).softmax(dim=0) * torch.tensor([2.0, 0.0, 2.0])
    torch.testing.assert_close(pooled[0, 0], weights @ memory[0])
    torch.testing.assert_close(total, torch.stack([weights.sum(), torch.zeros(())])[None])
    torch.testing.assert_close(pooled[0, 1], torch.zeros(4))


@pytest.mark.parametrize("queries", [2, 9])
def test_a_given_mask_is_that_of_the_weights(queries: int) -> None:
    torch.manual_seed(0)
    tensors = layer(2, queries, 5, 8)
    keep = torch.rand(2, 2, queries, 5) < 0.6
    ours = decoder_attention(*tensors, 2, dropout=0.4, keep=keep)
    asked, memory, code, weight, bias = tensors
    q, k, v = (
        (x @ w.T + b).unflatten(2, (2, 4)).transpose(1, 2)
        for x, w, b in zip((asked, memory + code, memory), weight.chunk(3), bias.chunk(3), strict=True)
    )
    weights = (q @ k.transpose(2, 3) / 2).softmax(dim=3) * keep / 0.6
    torch.testing.assert_close(ours, (weights @ v).transpose(1, 2).flatten(2))


@pytest.mark.parametrize("queries", [2, 9])
def test_dropout_keeps_the_mean(queries: int) -> None:
    torch.manual_seed(0)
    tensors = layer(1, queries, 5, 8)
    mean = torch.stack([decoder_attention(*tensors, 2, dropout=0.5) for _ in range(3000)]).mean(dim=0)
    torch.testing.assert_close(mean, decoder_attention(*tensors, 2), rtol=0, atol=0.08)


def test_autocast_and_bf16_stay_close() -> None:
    tensors = layer(2, 3, 20, 32)
    wanted = decoder_attention(*tensors, 4)
    with torch.autocast("cpu", torch.bfloat16):
        ours = decoder_attention(tensors[0], tensors[1].bfloat16(), *tensors[2:], 4)
    assert ours.dtype == torch.bfloat16
    torch.testing.assert_close(ours.float(), wanted, rtol=0, atol=0.03)
    assert describe()["decoder_attention"].path == "reference"


@pytest.mark.parametrize(
    ("place", "shape"), [(0, (2, 3)), (0, (1, 3, 8)), (1, (2, 0, 8)), (2, (4, 8)), (3, (8, 24)), (4, (8,))]
)
def test_shapes_that_do_not_fit_are_refused(place: int, shape: tuple[int, ...]) -> None:
    tensors = layer(2, 3, 5, 8)
    tensors[place] = torch.zeros(shape)
    with pytest.raises(ValueError, match="decoder_attention takes"):
        decoder_attention(*tensors, 2)


@pytest.mark.parametrize(("heads", "dropout"), [(3, 0.0), (0, 0.0), (2, 1.0), (2, -0.1)])
def test_heads_and_dropout_that_do_not_fit_are_refused(heads: int, dropout: float) -> None:
    with pytest.raises(ValueError, match="heads, or a dropout"):
        decoder_attention(*layer(2, 3, 5, 8), heads, dropout=dropout)


def test_a_mask_that_does_not_fit_is_refused() -> None:
    with pytest.raises(ValueError, match="keep is"):
        decoder_attention(*layer(2, 3, 5, 8), 2, dropout=0.1, keep=torch.ones(2, 6, 5, dtype=torch.bool))
