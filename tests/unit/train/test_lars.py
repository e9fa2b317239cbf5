import copy
from dataclasses import replace

import pytest
import torch
from torch import nn

from fra_dist.train.optim.lars import LARS
from fra_dist.train.optim.moved import Known, ParameterPieces


def by_hand(p, v, g, lr, momentum, decay, trust, adapt):
    """One step on one tensor, number by number as the docstring has it."""
    norm = p.norm()
    ratio = trust * norm / (g.norm() + decay * norm + 1e-8) if adapt and norm > 0 else 1.0
    v = momentum * v + lr * ratio * (g + decay * p)
    return p - v, v


def test_several_steps_of_two_groups_with_a_changing_rate():
    torch.manual_seed(0)
    shapes = [(4, 3), (5,), (2, 3, 2), (6,)]
    parameters = [nn.Parameter(torch.randn(shape, dtype=torch.float64)) for shape in shapes]
    groups = [
        {"params": parameters[:3], "weight_decay": 0.1, "adapt": True},
        {"params": parameters[3:], "weight_decay": 0.0, "adapt": False},
    ]
    optimizer = LARS(groups, lr=1.0, momentum=0.8, trust=0.01)
    expected = [(p.detach().clone(), torch.zeros_like(p)) for p in parameters]
    for lr in (0.5, 1.0, 0.25):
        for group in optimizer.param_groups:
            group["lr"] = lr
        for i, p in enumerate(parameters):
            p.grad = torch.randn_like(p)
            plain = i == 3
            expected[i] = by_hand(*expected[i], p.grad, lr, 0.8, 0.0 if plain else 0.1, 0.01, not plain)
        optimizer.step()
        for p, (value, velocity) in zip(parameters, expected, strict=True):
            torch.testing.assert_close(p.data, value, rtol=1e-12, atol=1e-14)
            torch.testing.assert_close(optimizer.state[p]["momentum_buffer"], velocity, rtol=1e-12, atol=1e-14)


def test_decay_without_adaptation_applies():
    p = nn.Parameter(torch.tensor([2.0]))
    optimizer = LARS([p], lr=0.5, weight_decay=0.1, adapt=False)
    p.grad = torch.tensor([1.0])
    optimizer.step()
    assert p.item() == pytest.approx(2 - 0.5 * (1 + 0.2))


def test_a_step_is_a_share_of_the_weights_length_whatever_the_gradients():
    for scale in (1e-3, 1e3):
        p = nn.Parameter(torch.tensor([3.0, 4.0]))
        optimizer = LARS([p], lr=1.0, trust=0.01)
        p.grad = scale * torch.tensor([1.0, 1.0])
        before = p.detach().clone()
        optimizer.step()
        assert (p.detach() - before).norm().item() == pytest.approx(0.05, rel=1e-4)


def test_zero_weights_move_and_zero_gradients_do_no_harm():
    zero, still = nn.Parameter(torch.zeros(3)), nn.Parameter(torch.ones(3))
    optimizer = LARS([zero, still], lr=1.0)
    zero.grad, still.grad = torch.ones(3), torch.zeros(3)
    optimizer.step()
    assert torch.equal(zero.detach(), -torch.ones(3))
    assert torch.equal(still.detach(), torch.ones(3))


def test_parameters_without_gradient_are_left_alone():
    used, unused = nn.Parameter(torch.ones(2)), nn.Parameter(torch.ones(2))
    optimizer = LARS([used, unused], lr=1.0)
    used.grad = torch.ones(2)
    optimizer.step()
    assert unused not in optimizer.state
    assert torch.equal(unused.detach(), torch.ones(2))


def test_tensors_are_known_while_they_are_the_same_in_the_same_place():
    tensors = [torch.zeros(3), torch.zeros(2)]
    known = Known(tensors)
    assert known.holds(tensors)
    tensors[0].add_(1)
    assert known.holds(list(tensors))
    assert not known.holds(tensors[:1])
    assert not known.holds([tensors[0], tensors[1].clone()])
    tensors[1].data = torch.zeros(2, 2)[:, 0]  # elsewhere, and laid out differently
    assert not known.holds(tensors)


def test_state_goes_on_after_saving_and_loading():
    def train(optimizer, p, steps):
        for step in steps:
            p.grad = torch.full_like(p, step + 1.0)
            optimizer.step()

    p = nn.Parameter(torch.ones(3))
    optimizer = LARS([p], lr=0.1)
    train(optimizer, p, range(2))
    q = nn.Parameter(p.detach().clone())
    other = LARS([q], lr=0.1)
    other.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    train(optimizer, p, range(2, 4))
    train(other, q, range(2, 4))
    assert torch.equal(p, q)


def test_a_closure_is_called_with_gradients_on():
    p = nn.Parameter(torch.ones(2))
    optimizer = LARS([p], lr=0.1)

    def closure():
        optimizer.zero_grad()
        loss = p.square().sum()
        loss.backward()
        return loss

    assert optimizer.step(closure).item() == 2
    assert (p < 1).all()


def test_found_inf_leaves_everything_as_it_is():
    torch.manual_seed(0)
    matrix, vector = nn.Parameter(torch.randn(5, 3)), nn.Parameter(torch.randn(7))
    groups = [{"params": [matrix]}, {"params": [vector], "adapt": False}]
    optimizer = LARS(groups, lr=0.3, weight_decay=0.1)
    for bad, value in ((0.0, 1.0), (1.0, float("nan")), (0.0, 2.0)):
        before = [t.clone() for t in (matrix, vector, *(s["momentum_buffer"] for s in optimizer.state.values()))]
        matrix.grad, vector.grad = torch.full((5, 3), value), torch.full((7,), value)
        optimizer.found_inf = torch.tensor(bad)
        optimizer.step()
        after = [matrix, vector, *(s["momentum_buffer"] for s in optimizer.state.values())]
        same = [torch.equal(a, b) for a, b in zip(after, before, strict=False)]
        assert same == [bad == 1] * len(same)
        assert all(t.isfinite().all() for t in after)


@pytest.mark.parametrize("world", [1, 2, 3, 5])
def test_pieces_of_flat_shares_move_as_whole_parameters(world):
    """Ranks in turn, each with an equal share of all parameters laid end to end, against whole parameters."""
    torch.manual_seed(world)
    wholes = [nn.Parameter(torch.randn(shape, dtype=torch.float64)) for shape in [(4, 3), (5,), (1,), (2, 3, 2), (3,)]]
    flat = torch.cat([p.detach().flatten() for p in wholes])
    size = -(-len(flat) // world)
    flat = torch.cat([flat, flat.new_zeros(size * world - len(flat))])
    shares = [nn.Parameter(share.clone()) for share in flat.split(size)]
    offsets = [sum(p.numel() for p in wholes[:i]) for i in range(len(wholes))]
    optimizers, squares = [], []
    for rank, share in enumerate(shares):
        spans, index = [], []
        for number, (offset, p) in enumerate(zip(offsets, wholes, strict=True)):
            low, high = max(offset, rank * size), min(offset + p.numel(), (rank + 1) * size)
            if low < high:
                spans.append((low - rank * size, high - low))
                index.append(number)
        optimizer = LARS([share], lr=0.5, weight_decay=0.1, trust=0.02)
        optimizer.pieces = {
            share: ParameterPieces(spans, torch.tensor(index, dtype=torch.int64), len(wholes), lambda x: x)
        }
        optimizers.append(optimizer)
    expected = LARS(wholes, lr=0.5, weight_decay=0.1, trust=0.02)
    for _ in range(3):
        gradient = torch.randn_like(flat)
        for offset, p in zip(offsets, wholes, strict=True):
            p.grad = gradient[offset : offset + p.numel()].view(p.shape).clone()
        for share, part in zip(shares, gradient.split(size), strict=True):
            share.grad = part.clone()
        squares = torch.stack(
            [
                torch.stack([p.detach().norm() ** 2 for p in wholes]),
                torch.stack([p.grad.norm() ** 2 for p in wholes]),
            ]
        )
        for optimizer, share in zip(optimizers, shares, strict=True):
            own = optimizer.pieces[share]
            optimizer.pieces[share] = replace(own, sum=lambda x, squares=squares: squares)
            optimizer.step()
        expected.step()
    together = torch.cat([share.detach() for share in shares])
    for offset, p in zip(offsets, wholes, strict=True):
        torch.testing.assert_close(together[offset : offset + p.numel()].view(p.shape), p.data, rtol=1e-12, atol=0)
