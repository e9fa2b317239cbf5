import pytest
import torch
from torch import nn

from fra_dist.dist import SINGLE
from fra_dist.models.norm import CrossRankBatchNorm, synchronise_norms


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
    ours = CrossRankBatchNorm(plain.num_features, Twins(), eps=plain.eps, momentum=plain.momentum)
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
    norm = CrossRankBatchNorm(3, Twins()).double()
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
    ours = CrossRankBatchNorm(5, Twins(), affine=False, track_running_stats=False)
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
    assert isinstance(model[1], CrossRankBatchNorm)
    assert isinstance(model[2][0], CrossRankBatchNorm)
    assert (model[1].training, model[2][0].training, model[1].eps) == (False, True, 1e-3)
    assert list(model.state_dict()) == names
    assert all(parameter is parameters[name] for name, parameter in model.named_parameters())
    assert isinstance(synchronise_norms(nn.BatchNorm1d(2), Twins()), CrossRankBatchNorm)


def test_one_rank_keeps_torchs_own():
    model = nn.Sequential(nn.BatchNorm2d(4))
    assert type(synchronise_norms(model, SINGLE)[0]) is nn.BatchNorm2d
