"""The correspondence term against its formula pixel by pixel, its gradients, groups of exchange and parts of a step."""

import itertools
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

from fra_dist.config import LossConfig
from fra_dist.errors import ConfigError
from fra_dist.kernels.correspondence import correspondence
from fra_dist.kernels.correspondence import reference as plain
from fra_dist.losses.correspondence import check_exchange, correspondence_terms, exchanged, partners
from fra_dist.losses.geometry import Placement, shown_pixels

ON = LossConfig(correspondence=1.0)
EXCHANGED = LossConfig(correspondence=1.0, exchange=True)


def views(images, width=6, height=4, breadth=5, seed=0):
    generator = torch.Generator().manual_seed(seed)
    pixels = torch.randn(2, images, width, height, breadth, generator=generator, dtype=torch.float64)
    corner = torch.randint(0, 20, (2, images, 2), generator=generator)
    boxes = torch.cat([corner, corner + torch.randint(15, 30, (2, images, 2), generator=generator)], dim=2)
    return pixels, Placement(boxes, torch.rand(2, images, generator=generator) < 0.5)


def place_in_photo(box, flip, row, column, height, breadth):
    """Where a pixel's centre lies in the photo, from how crops are cut: by hand, one pixel at a time."""
    across = (column + 0.5) / breadth
    across = 1 - across if flip else across
    return box[0] + across * (box[2] - box[0]), box[1] + (row + 0.5) / height * (box[3] - box[1])


def by_hand(pixels, placement, config):
    """The formula at the head of the module, pixel by pixel; the other photo is the one half a batch further on."""
    height, breadth = pixels.shape[3:]
    cells = list(itertools.product(range(height), range(breadth)))
    total, count = 0.0, 0
    for here, image in itertools.product((0, 1), range(pixels.shape[1])):
        there = 1 - here
        mine, sought = (placement.boxes[v, image].tolist() for v in (here, there))
        flips = placement.flips[:, image].tolist()
        keys = torch.stack([functional.normalize(pixels[there, image, :, i, j], dim=0) for i, j in cells])
        other = (image + pixels.shape[1] // 2) % pixels.shape[1]
        others = torch.stack([functional.normalize(pixels[there, other, :, i, j], dim=0) for i, j in cells])
        for i, j in cells:
            x, y = place_in_photo(mine, flips[here], i, j, height, breadth)
            across, down = (x - sought[0]) / (sought[2] - sought[0]), (y - sought[1]) / (sought[3] - sought[1])
            across = 1 - across if flips[there] else across
            if not (0 <= across <= 1 and 0 <= down <= 1):
                continue
            at = torch.tensor([down * height - 0.5, across * breadth - 0.5], dtype=torch.float64)
            away = torch.stack([(torch.tensor(cell, dtype=torch.float64) - at).square().sum() for cell in cells])
            target = torch.softmax(-away / (2 * config.correspondence_spread**2), dim=0)
            asked = functional.normalize(pixels[here, image, :, i, j], dim=0)
            if config.exchange:
                asked = torch.softmax(others @ asked / config.correspondence_temperature, dim=0) @ others
                asked = functional.normalize(asked, dim=0)
            found = torch.log_softmax(keys @ asked / config.correspondence_temperature, dim=0)
            total = total + (target * (target.log() - found)).sum()
            count += 1
    return total / max(count, 1), count / (2 * pixels.shape[1] * height * breadth)


@settings(max_examples=8, deadline=None)
@given(st.integers(0, 1000), st.booleans(), st.sampled_from([0.1, 0.5]), st.sampled_from([0.5, 0.7, 2.0]))
def test_is_the_formula(seed, exchange, temperature, spread):
    pixels, placement = views(2, height=3, seed=seed)
    config = LossConfig(
        correspondence=1.0, exchange=exchange, correspondence_temperature=temperature, correspondence_spread=spread
    )
    pixels.requires_grad_()
    found = correspondence_terms(pixels.unbind(), placement, config)
    wanted, overlap = by_hand(pixels, placement, config)
    torch.testing.assert_close(found["correspondence"], wanted * torch.ones((), dtype=torch.float64))
    assert found["views/overlap"].item() == pytest.approx(overlap)
    if overlap:
        ours, right = (torch.autograd.grad(loss, pixels)[0] for loss in (found["correspondence"], wanted))
        torch.testing.assert_close(ours, right, rtol=1e-8, atol=1e-11)


@pytest.mark.parametrize("config", [ON, EXCHANGED], ids=["plain", "exchange"])
def test_gradients_in_float64(config):
    pixels, placement = views(2, width=4, height=3, breadth=3)
    one, two = (view.requires_grad_() for view in pixels.clone().unbind())
    assert torch.autograd.gradcheck(
        lambda a, b: correspondence_terms((a, b), placement, config)["correspondence"],
        (one.detach().requires_grad_(), two.detach().requires_grad_()),
    )


def test_gradients_of_the_pixelwise_part_in_float64():
    generator = torch.Generator().manual_seed(0)
    vectors = torch.randn(2, 2, 12, 5, generator=generator, dtype=torch.float64)
    lines = torch.rand(2, 3, generator=generator, dtype=torch.float64), torch.rand(2, 4, dtype=torch.float64) * 4
    assert torch.autograd.gradcheck(
        lambda q, k: correspondence(q, k, *lines, spread=0.7, temperature=0.3),
        (vectors[0].requires_grad_(), vectors[1].clone().detach().requires_grad_()),
    )


@pytest.mark.parametrize("pairs", [1, 60, 200, 1000])
def test_tiles_change_nothing(monkeypatch, pairs):
    """One row of pixels at a time, a few rows, one image, and all images but one."""
    pixels, placement = views(5)
    inputs = [view.clone().requires_grad_() for view in pixels]
    whole = correspondence_terms(inputs, placement, ON)["correspondence"]
    wanted = torch.autograd.grad(whole, inputs)
    monkeypatch.setattr(plain, "TILE", pairs)
    parts = correspondence_terms(inputs, placement, ON)["correspondence"]
    torch.testing.assert_close(parts, whole, rtol=1e-13, atol=0)
    torch.testing.assert_close(torch.autograd.grad(parts, inputs), wanted, rtol=1e-11, atol=1e-14)


def test_memory_does_not_hold_pixels_against_pixels():
    """No tensor, kept for backward or made on the way, has H·W × H·W numbers for all images."""
    from torch.utils._python_dispatch import TorchDispatchMode

    class Largest(TorchDispatchMode):
        numel = 0

        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            out = function(*args, **(kwargs or {}))
            for tensor in out if isinstance(out, (tuple, list)) else (out,):
                if isinstance(tensor, torch.Tensor):
                    self.numel = max(self.numel, tensor.numel())
            return out

    pixels, placement = views(8, width=4, height=28, breadth=28)
    inputs = [view.float().requires_grad_() for view in pixels]
    with Largest() as seen:
        correspondence_terms(inputs, placement, EXCHANGED)["correspondence"].backward()
    assert 0 < seen.numel <= plain.TILE < 8 * 784**2


@pytest.mark.parametrize("config", [ON, EXCHANGED], ids=["plain", "exchange"])
def test_half_precision_pixels_are_compared_in_single(config):
    pixels, placement = views(4, width=32)
    exact = correspondence_terms(pixels.unbind(), placement, config)["correspondence"]
    inputs = [view.bfloat16().requires_grad_() for view in pixels]
    with torch.autocast("cpu", torch.bfloat16):
        found = correspondence_terms(inputs, placement, config)["correspondence"]
    assert found.dtype == torch.float32
    assert found.item() == pytest.approx(exact.item(), rel=2e-2)
    gradients = torch.autograd.grad(found, inputs)
    assert all(g.dtype == torch.bfloat16 and g.isfinite().all() for g in gradients)


def test_nothing_known_is_1_and_all_found_is_near_0():
    images, height, breadth = 2, 4, 5
    same = Placement.same(images, torch.device("cpu"))
    alike = torch.ones(images, 6, height, breadth, dtype=torch.float64)
    terms = correspondence_terms((alike, alike), same, ON)
    assert terms["correspondence_ratio"].item() == pytest.approx(1)
    # every pixel its own direction, a sharp target: each finds itself
    own = torch.eye(20, dtype=torch.float64).view(1, 20, height, breadth).expand(images, -1, -1, -1)
    sharp = LossConfig(correspondence=1.0, correspondence_spread=0.1, correspondence_temperature=0.05)
    terms = correspondence_terms((own, own), same, sharp)
    assert terms["correspondence_ratio"] < 1e-6
    assert terms["correspondence"].item() < math.log(20) * 1e-6


def test_views_without_a_common_pixel_teach_nothing():
    pixels, _ = views(2)
    boxes = torch.tensor([[[0, 0, 10, 10]] * 2, [[50, 50, 60, 60]] * 2])
    inputs = [view.clone().requires_grad_() for view in pixels]
    terms = correspondence_terms(inputs, Placement(boxes, torch.zeros(2, 2, dtype=torch.bool)), ON)
    assert terms["correspondence"] == terms["views/overlap"] == 0
    assert terms["correspondence_ratio"].isfinite()
    assert all((g == 0).all() for g in torch.autograd.grad(terms["correspondence"], inputs))


@pytest.mark.parametrize("world", [1, 2, 3, 4])
@pytest.mark.parametrize("group", [None, 24])
def test_partners_do_not_depend_on_the_number_of_ranks(world, group):
    batch = 48
    config = LossConfig(correspondence=1.0, exchange=True, exchange_group=group)

    class Ranks:
        def __init__(self, world):
            self.world = world

    places = torch.arange(batch)
    found = torch.empty_like(places)
    for rank in range(world):
        found[rank::world] = partners(places[rank::world], config, Ranks(world))
    size = group or batch
    wanted = places // size * size + (places + size // 2) % size
    assert torch.equal(found, wanted)
    assert (found != places).all()


def test_parts_of_a_step_are_the_whole_step():
    """Forward passes over some of the photos each: their mean is the pass over all, gradients too."""
    config = LossConfig(correspondence=1.0, exchange=True, exchange_group=4)
    pixels, placement = views(12)
    inputs = [view.clone().requires_grad_() for view in pixels]
    whole = correspondence_terms(inputs, placement, config)["correspondence"]
    wanted = torch.autograd.grad(whole, inputs)
    counted = Placement(placement.boxes, placement.flips, shown_pixels(placement, 4, 5, torch.float64))
    parts = [
        correspondence_terms([view[n : n + 4] for view in inputs], counted.part(n, n + 4), config)["correspondence"]
        for n in (0, 4, 8)
    ]
    assert parts[0] != parts[1]
    mean = torch.stack(parts).mean()
    torch.testing.assert_close(mean, whole, rtol=1e-12, atol=0)
    torch.testing.assert_close(torch.autograd.grad(mean, inputs), wanted, rtol=1e-10, atol=1e-14)


def test_exchange_looks_at_the_partner_alone():
    pixels, placement = views(4)
    inputs = [view.clone().requires_grad_() for view in pixels]
    rows = inputs[0].flatten(2).transpose(1, 2)
    found = exchanged(functional.normalize(rows, dim=2), functional.normalize(partners(rows, EXCHANGED), dim=2), 0.1)
    (gradient,) = torch.autograd.grad(found[1, :, 0].sum(), inputs[0])
    assert [bool(g.any()) for g in gradient] == [False, True, False, True]
    torch.testing.assert_close(found.norm(dim=2), torch.ones_like(found[:, :, 0]))
    plain_loss, other = (correspondence_terms(inputs, placement, c)["correspondence"] for c in (ON, EXCHANGED))
    assert abs(plain_loss - other) > 1e-3


@pytest.mark.parametrize(
    ("group", "batch", "passes", "world", "said"),
    [
        (None, 64, 1, 1, None),
        (None, 64, 1, 32, None),
        (None, 64, 2, 1, r"groups of 64, which 1 rank and 2 forward passes a step .* one of 2, 4, 16, 32"),
        (None, 64, 1, 64, r"groups of 64, which 64 ranks .* use fewer ranks"),
        (16, 64, 2, 2, None),
        (16, 64, 1, 16, r"groups of 16, which 16 ranks .* one of 32, 64"),
        (24, 64, 1, 1, r"groups of 24"),
        (12, 48, 1, 3, None),
    ],
)
def test_groups_that_ranks_or_passes_would_cut_are_refused(group, batch, passes, world, said):
    config = LossConfig(correspondence=1.0, exchange=True, exchange_group=group)
    if said is None:
        check_exchange(config, batch, passes, world)
        return
    with pytest.raises(ConfigError, match=said):
        check_exchange(config, batch, passes, world)
    check_exchange(LossConfig(correspondence=1.0, exchange_group=group), batch, passes, world)
