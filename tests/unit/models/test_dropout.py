"""Dropout that belongs to images."""

import pytest
import torch

from fra_dist.config import DecoderConfig
from fra_dist.kernels import force
from fra_dist.kernels.dropout_mask import dropout_mask
from fra_dist.kernels.dropout_mask.host import on_host
from fra_dist.models.decoder import RegionDecoder
from fra_dist.models.dropout import ImageDropout, _Kept, image_keys


def test_the_share_that_is_dropped_and_the_scale() -> None:
    dropout = ImageDropout(0.3)
    dropout.start(image_keys(7, torch.arange(50)))
    out = dropout(torch.ones(50, 40, 25))
    assert set(out.unique().tolist()) == {0.0, float(torch.tensor(1.0) / 0.7)}
    share = (out == 0).double()
    assert abs(share.mean() - 0.3) < 0.005
    assert (share.mean(dim=(1, 2)) - 0.3).abs().max() < 0.06
    assert (share.mean(dim=0) - 0.3).abs().mean() < 0.08


def test_places_images_steps_and_calls_are_independent() -> None:
    def masks(number: int, places: torch.Tensor, calls: int) -> list[torch.Tensor]:
        dropout = ImageDropout(0.5)
        dropout.start(image_keys(number, places))
        return [(dropout(torch.ones(len(places), 4000)) > 0).double() for _ in range(calls)]

    first = masks(1, torch.arange(3), 2)
    rows = [*first[0], *first[1], *masks(2, torch.arange(3), 1)[0]]
    correlation = torch.corrcoef(torch.stack(rows)) - torch.eye(len(rows), dtype=torch.float64)
    assert correlation.abs().max() < 0.06
    again = masks(1, torch.arange(3), 2)
    assert all(a.equal(b) for a, b in zip(first, again, strict=True))


def test_a_part_of_the_batch_draws_what_it_draws_in_the_whole() -> None:
    torch.manual_seed(0)
    decoder = RegionDecoder(12, 16, 5, DecoderConfig(layers=2, heads=2, feedforward=24, dropout=0.4)).double()
    features, places = torch.randn(8, 12, 3, 4, dtype=torch.float64), torch.arange(8)
    decoder.dropout.start(image_keys(3, places))
    whole = decoder(features)
    for part in (slice(0, 4), slice(1, None, 3)):
        decoder.dropout.start(image_keys(3, places[part]))
        torch.testing.assert_close(decoder(features[part]), whole[part], rtol=1e-12, atol=1e-12)


def test_without_keys_it_is_torchs_and_idle_in_eval() -> None:
    dropout = ImageDropout(0.5)
    torch.manual_seed(3)
    ours = dropout(torch.ones(4, 9))
    torch.manual_seed(3)
    assert ours.equal(torch.nn.functional.dropout(torch.ones(4, 9), 0.5))
    assert dropout.eval()(torch.ones(2, 2)).equal(torch.ones(2, 2))


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_the_pass_of_a_gpu_gives_the_same_numbers(dtype: torch.dtype) -> None:
    x = torch.randn(40, 30, dtype=dtype, requires_grad=True)
    kept, given = torch.rand(40, 30) > 0.3, torch.randn(40, 30, dtype=dtype)
    out, plain = _Kept.apply(x, kept, 1 / 0.7), x * kept.to(dtype) / 0.7
    torch.testing.assert_close(out, plain)
    torch.testing.assert_close(torch.autograd.grad(out, x, given), torch.autograd.grad(plain, x, given))
    assert out.dtype == dtype


def test_large_numbers_do_not_overflow() -> None:
    dropout = ImageDropout(0.1)
    dropout.start(image_keys((10**9 * 1_000_003 + 10**8) * 65_537, torch.tensor([2**40])))
    for _ in range(200):
        dropout(torch.ones(1, 3))
    assert dropout(torch.ones(1, 3)).isfinite().all()


def test_a_kernel_that_makes_a_mask_itself_counts_as_a_call() -> None:
    dropout = ImageDropout(0.4, span=6)
    assert dropout.drawn() == {}
    assert dropout.calls == 0
    dropout.start(torch.arange(3))
    dropout(torch.ones(3, 5))
    drawn, shape = dropout.drawn(), torch.Size((6, 5))
    own = dropout_mask(drawn["keys"], shape, drawn["call"], drawn["span"], dropout.p)
    assert dropout.calls == 2
    dropout.start(torch.arange(3))
    dropout(torch.ones(3, 5))
    assert torch.equal(dropout.kept(shape), own)


def test_masks_are_those_of_earlier_versions() -> None:
    """A run that resumes after an update drops what it would have dropped."""
    dropout = ImageDropout(0.4, span=3)
    dropout.start(image_keys(123_456_789, torch.arange(2)))
    dropout.kept(torch.Size((4, 4, 4)))
    kept = dropout.kept(torch.Size((4, 4, 4)))  # of two views
    words = [int("".join(str(int(bit)) for bit in row.flatten()), 2) for row in kept]
    assert words == [40698, 3358, 12599, 60336]


@pytest.mark.parametrize(("call", "span", "p"), [(1, 12, 0.1), (7, 4, 0.0), (2_000_000_000, 6, 0.999)])
def test_the_compiled_pass_on_a_cpu_gives_the_bits_of_the_plain_path(call: int, span: int, p: float) -> None:
    keys = torch.tensor([0, -1, 2**63 - 1, -(2**63), 1234567])
    shape = torch.Size((10, 3, 70))
    with force("reference"):
        wanted = dropout_mask(keys, shape, call, span, p)
    found = dropout_mask(keys, shape, call, span, p)
    assert found.dtype == torch.bool
    assert torch.equal(found, wanted)
    assert torch.equal(on_host(keys, shape, call, span, int(p * 2**53)), wanted)
    assert wanted.float().mean() == pytest.approx(1 - p, abs=0.03)
    assert dropout_mask(keys, torch.Size((5, 0)), call, span, p).shape == (5, 0)
