"""Dropout that belongs to images."""

import torch

from fra_dist.config import DecoderConfig
from fra_dist.models.decoder import RegionDecoder
from fra_dist.models.dropout import ImageDropout, image_keys


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


def test_large_numbers_do_not_overflow() -> None:
    dropout = ImageDropout(0.1)
    dropout.start(image_keys((10**9 * 1_000_003 + 10**8) * 65_537, torch.tensor([2**40])))
    for _ in range(200):
        dropout(torch.ones(1, 3))
    assert dropout(torch.ones(1, 3)).isfinite().all()


def test_masks_are_those_of_earlier_versions() -> None:
    """A run that resumes after an update drops what it would have dropped."""
    dropout = ImageDropout(0.4, span=3)
    dropout.start(image_keys(123_456_789, torch.arange(2)))
    dropout.kept(torch.Size((4, 4, 4)))
    kept = dropout.kept(torch.Size((4, 4, 4)))  # of two views
    words = [int("".join(str(int(bit)) for bit in row.flatten()), 2) for row in kept]
    assert words == [40698, 3358, 12599, 60336]
