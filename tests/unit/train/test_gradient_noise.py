"""The estimate against gradients whose noise is known."""

import pytest
import torch

from fra_dist.train.engines.gradient_noise import GradientNoise

FINE = torch.tensor(True)


def gradients(generator, batch, spread):
    """Of two weights: 0.1 everywhere, and noise of variance spread² an image."""
    noise = [torch.randn(shape, generator=generator) * spread / batch**0.5 for shape in ((40, 25), (500,))]
    return [0.1 + part for part in noise]


@pytest.mark.parametrize("batch", [8, 64])
def test_the_scale_does_not_depend_on_the_batch(batch):
    generator = torch.Generator().manual_seed(1)
    noise = GradientNoise(batch)
    for _ in range(400):
        noise.note(gradients(generator, batch, 0.8), FINE)
    # tr(Σ)/|G|² = 1500·0.8² / (1500·0.1²)
    assert noise.take(torch.zeros(())).item() == pytest.approx(64.0, rel=0.05)


def test_parts_of_ranks_add_up():
    generator = torch.Generator().manual_seed(2)
    steps = [gradients(generator, 8, 0.3) for _ in range(4)]
    whole, other = GradientNoise(8), GradientNoise(8)
    held = []
    part = GradientNoise(8, sum_ranks=lambda products: products + held.pop(0))
    other.sum_ranks = lambda products: held.append(products.clone()) or products
    for one, two in steps:
        whole.note([one, two], FINE)
        other.note([two], FINE)
        part.note([one], FINE)
    torch.testing.assert_close(part.take(FINE), whole.take(FINE))


def test_pairs_with_a_gradient_that_is_not_finite_do_not_count():
    generator = torch.Generator().manual_seed(3)
    one, two, three, four = (gradients(generator, 8, 0.3) for _ in range(4))
    broken = [torch.full_like(part, torch.nan) for part in one]
    noise, calm = GradientNoise(8), GradientNoise(8)
    for step, fine in ((one, True), (two, True), (broken, False), (three, True), (four, True)):
        noise.note(step, torch.tensor(fine))
    for pair in ((one, two), (three, four)):
        calm._fine = None
        for step in pair:
            calm.note(step, FINE)
    torch.testing.assert_close(noise.take(FINE), calm.take(FINE))


def test_without_a_pair_it_is_not_a_number():
    noise = GradientNoise(8)
    assert noise.take(FINE).isnan()
    noise.note([torch.ones(3)], FINE)
    assert noise.take(FINE).isnan()
    noise.note([torch.ones(3)], FINE)
    assert noise.take(FINE) == 0
    assert noise.take(FINE).isnan()  # a new window


def test_a_rank_may_hold_no_part():
    noise = GradientNoise(8, sum_ranks=lambda products: products + 1)
    for _ in range(2):
        noise.note([], FINE)
    assert noise.take(FINE) == 0
