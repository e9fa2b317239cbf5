import pytest
import torch
from torch import nn

from fra_dist.distributed import SINGLE
from fra_dist.models.norm import (
    BatchNorm,
    PooledBatchNorm,
    can_be_grouped,
    groups_of,
    in_groups,
    synchronise_norms,
)


class Twins:
    """Two ranks with the same images: what one process can check; several are started in tests/dist."""

    world = 2

    def sum(self, x):
        return 2 * x

    def mean(self, x):
        return x


def pair(plain, dtype):
    """A plain batch norm and one over twin ranks, with equal weights and states."""
    torch.manual_seed(0)
    nn.init.normal_(plain.weight)
    nn.init.normal_(plain.bias)
    ours = BatchNorm(plain.num_features, Twins(), eps=plain.eps, momentum=plain.momentum)
    ours.load_state_dict(plain.state_dict())
    return plain.to(dtype), ours.to(dtype)


@pytest.mark.parametrize(
    ("norm", "shape"), [(nn.BatchNorm1d, (7, 5)), (nn.BatchNorm1d, (3, 5, 4)), (nn.BatchNorm2d, (3, 5, 2, 3))]
)
@pytest.mark.parametrize("momentum", [0.1, None])
def test_twin_ranks_are_one_rank_with_every_image_twice(norm, shape, momentum):
    plain, ours = pair(norm(5, momentum=momentum), torch.float64)
    x = 3 + torch.randn(shape, dtype=torch.float64)
    weights = torch.randn(shape, dtype=torch.float64)
    twice, once = torch.cat([x, x]).requires_grad_(), x.clone().requires_grad_()
    for _ in range(2):
        expected, out = plain(twice), ours(once)
    (expected * torch.cat([weights, weights])).sum().backward()
    (out * weights).sum().backward()
    close = {"rtol": 1e-10, "atol": 1e-10}
    torch.testing.assert_close(out, expected[: len(x)], **close)
    torch.testing.assert_close(once.grad, twice.grad[: len(x)], **close)
    torch.testing.assert_close(2 * ours.weight.grad, plain.weight.grad, **close)
    torch.testing.assert_close(2 * ours.bias.grad, plain.bias.grad, **close)
    for name, value in plain.state_dict().items():
        torch.testing.assert_close(ours.state_dict()[name], value, **close, msg=name)


def test_the_backward_is_the_derivative():
    torch.manual_seed(0)
    norm = BatchNorm(3, Twins()).double()
    nn.init.normal_(norm.weight)
    # the twin moves too and both losses count, so the sum over ranks has twice this derivative, half of it from here
    x = torch.randn(4, 3, 2, dtype=torch.float64, requires_grad=True)
    target = torch.randn(4, 3, 2, dtype=torch.float64)
    loss = (norm(x) - target).square().sum()
    (grad,) = torch.autograd.grad(loss, x)
    step = torch.zeros_like(x)
    for place in ((0, 0, 0), (3, 2, 1)):
        step.zero_()[place] = 1e-6
        up, down = ((norm(x + s) - target).square().sum().item() for s in (step, -step))
        assert float(grad[place]) == pytest.approx((up - down) / 2e-6, rel=1e-5)


def test_bf16_keeps_statistics_in_fp32():
    plain, ours = pair(nn.BatchNorm1d(5), torch.float32)
    x = (100 + torch.randn(64, 5)).bfloat16()
    out = ours(x)
    assert out.dtype == torch.bfloat16
    torch.testing.assert_close(ours.running_mean, 0.1 * x.float().mean(dim=0), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(out.float(), plain(x.float()), rtol=2e-2, atol=2e-2)


def test_eval_mode_is_plain_and_changes_nothing():
    plain, ours = pair(nn.BatchNorm2d(5), torch.float32)
    x = torch.randn(2, 5, 3, 3)
    ours(x)
    plain.load_state_dict(ours.state_dict())
    before = {name: value.clone() for name, value in ours.state_dict().items()}
    assert torch.equal(ours.eval()(x), plain.eval()(x))
    assert all(torch.equal(value, before[name]) for name, value in ours.state_dict().items())


def test_without_affine_or_running_statistics():
    ours = BatchNorm(5, Twins(), affine=False, track_running_stats=False)
    x = torch.randn(6, 5, requires_grad=True)
    out = ours(x)
    out.square().sum().backward()
    torch.testing.assert_close(out, nn.functional.batch_norm(x, None, None, training=True), rtol=1e-4, atol=1e-5)
    assert ours.running_mean is None
    assert x.grad is not None


def test_converting_keeps_parameters_names_and_modes():
    model = nn.Sequential(
        nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4, eps=1e-3), nn.Sequential(nn.BatchNorm2d(4, affine=False))
    )
    model[1].eval()
    parameters, names = dict(model.named_parameters()), list(model.state_dict())
    same = synchronise_norms(model, Twins())
    assert same is model
    assert isinstance(model[1], BatchNorm)
    assert isinstance(model[2][0], BatchNorm)
    assert (model[1].training, model[2][0].training, model[1].eps) == (False, True, 1e-3)
    assert list(model.state_dict()) == names
    assert all(parameter is parameters[name] for name, parameter in model.named_parameters())
    assert isinstance(synchronise_norms(nn.BatchNorm1d(2), Twins()), BatchNorm)


class Odd(nn.BatchNorm2d):
    """A norm that does something else."""

    def forward(self, input):
        return super().forward(input) + 1


def test_one_rank_converts_what_it_knows():
    model = nn.Sequential(nn.BatchNorm2d(4), nn.BatchNorm1d(3), Odd(4))
    parameters = list(model.parameters())
    synchronise_norms(model, SINGLE)
    assert [type(norm) for norm in model] == [BatchNorm, BatchNorm, Odd]
    assert all(a is b for a, b in zip(model.parameters(), parameters, strict=True))
    assert not can_be_grouped(model)
    assert can_be_grouped(model[:2])
    with pytest.raises(ValueError, match="batch norm takes"):
        model[0](torch.randn(4))


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("mode", [True, False])
def test_one_rank_and_one_group_are_torchs_own_to_the_bit(layout, mode):
    torch.manual_seed(0)
    plain, ours = nn.BatchNorm2d(6).train(mode), BatchNorm(6).train(mode)
    x, residual = (torch.randn(4, 6, 5, 3).contiguous(memory_format=layout) for _ in range(2))
    inputs = [[t.clone().requires_grad_() for t in (x, residual)] for _ in range(2)]
    expected = (plain(inputs[0][0]) + inputs[0][1]).relu()
    found = ours(*inputs[1], relu=True)
    for out in (expected, found):
        out.square().sum().backward()
    assert torch.equal(found, expected)
    assert all(torch.equal(a.grad, b.grad) for a, b in zip(*inputs, strict=True))
    assert all(torch.equal(ours.state_dict()[name], value) for name, value in plain.state_dict().items())


@pytest.mark.parametrize("shape", [(6, 5), (6, 5, 4), (6, 5, 3, 2)])
@pytest.mark.parametrize("ranks", [SINGLE, Twins()])
@pytest.mark.parametrize("momentum", [0.1, None])
@pytest.mark.parametrize("relu", [True, False])
def test_groups_are_passes_one_after_the_other(shape, ranks, momentum, relu):
    torch.manual_seed(0)
    one, other = (BatchNorm(5, ranks, momentum=momentum).double() for _ in range(2))
    nn.init.normal_(one.weight)
    other.load_state_dict(one.state_dict())
    x, residual, weights = torch.randn(3, *shape, dtype=torch.float64)
    # views that are nothing alike
    x = (x * torch.tensor([1.0] * 2 + [5.0] * 2 + [0.1] * 2).view(-1, *[1] * (x.dim() - 1)) + 2).requires_grad_()
    apart = [(a, b) for a, b in zip(x.chunk(3), residual.chunk(3), strict=True)]
    expected = torch.cat([one(*pair, relu=relu) for pair in apart])
    (grad,) = torch.autograd.grad((expected * weights).sum(), x)
    (weight,) = torch.autograd.grad((torch.cat([one(*p, relu=relu) for p in apart]) * weights).sum(), one.weight)
    with in_groups(other, 3):
        assert groups_of(other) == 3
        found = other(x, residual, relu=relu)
        again = other(x, residual, relu=relu)
    assert groups_of(other) == 1
    (ours,) = torch.autograd.grad((found * weights).sum(), x)
    (our_weight,) = torch.autograd.grad((again * weights).sum(), other.weight)
    close = {"rtol": 1e-10, "atol": 1e-10}
    torch.testing.assert_close(found, expected, **close)
    torch.testing.assert_close(ours, grad, **close)
    torch.testing.assert_close(our_weight, weight, **close)
    for name, value in one.state_dict().items():
        torch.testing.assert_close(other.state_dict()[name], value, **close, msg=name)


def test_eval_mode_does_not_know_groups():
    ours = BatchNorm(3).eval()
    x = torch.randn(4, 3)
    with in_groups(ours, 2):
        assert torch.equal(ours(x), nn.functional.batch_norm(x, torch.zeros(3), torch.ones(3)))


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("groups", [1, 2])
def test_the_stem_takes_relu_and_pooling_along(training, groups):
    torch.manual_seed(0)
    apart, together = BatchNorm(5).double().train(training), PooledBatchNorm(5).double().train(training)
    one = torch.randn(4, 5, 7, 6, dtype=torch.float64).requires_grad_()
    other = one.detach().clone().requires_grad_()
    with in_groups(apart, groups), in_groups(together, groups):
        expected = nn.functional.max_pool2d(apart(one, relu=True), 3, stride=2, padding=1)
        found = together(other)
    given = torch.randn_like(expected)
    assert torch.equal(found, expected)
    assert torch.equal(*(torch.autograd.grad(y, x, given)[0] for y, x in ((found, other), (expected, one))))
    assert all(torch.equal(value, apart.state_dict()[name]) for name, value in together.state_dict().items())
