"""The plain batch norm against PyTorch's own, group by group, and its gradients against finite differences."""

import pytest
import torch
from torch.nn import functional

from fra_dist.distributed import SINGLE
from fra_dist.kernels.batch_norm import batch_norm


@pytest.mark.parametrize("shape", [(6, 5), (4, 3, 1, 1), (4, 7, 5, 3), (6, 2, 9)])
@pytest.mark.parametrize("groups", [1, 2])
def test_each_group_is_normalised_as_a_batch_of_its_own(shape: tuple[int, ...], groups: int) -> None:
    torch.manual_seed(0)
    x = torch.randn(shape, dtype=torch.float64) * 2 + 1
    weight, bias = torch.randn(2, shape[1], dtype=torch.float64)
    residual = torch.randn_like(x)
    y, mean, var = batch_norm(x, weight, bias, residual, cross=SINGLE, groups=groups, relu=True, eps=1e-3)
    for number, (part, rest, ours) in enumerate(zip(*(t.chunk(groups) for t in (x, residual, y)), strict=True)):
        wanted = functional.batch_norm(part, None, None, weight, bias, training=True, eps=1e-3) + rest
        torch.testing.assert_close(ours, wanted.relu())
        dims = [0, *range(2, x.dim())]
        torch.testing.assert_close(mean[number], part.mean(dims))
        torch.testing.assert_close(var[number], part.var(dims, correction=0))


@pytest.mark.parametrize("relu", [False, True])
def test_gradients_are_those_of_finite_differences(relu: bool) -> None:
    torch.manual_seed(1)
    x, residual = (torch.randn(4, 3, 2, 2, dtype=torch.float64, requires_grad=True) for _ in range(2))
    weight, bias = (torch.randn(3, dtype=torch.float64, requires_grad=True) for _ in range(2))

    def run(*tensors: torch.Tensor) -> torch.Tensor:
        return batch_norm(*tensors, cross=SINGLE, groups=2, relu=relu)[0]

    assert torch.autograd.gradcheck(run, (x, weight, bias, residual))


def test_bf16_keeps_its_type_and_fp32_statistics() -> None:
    x = torch.randn(4, 3, 2, 2).bfloat16().requires_grad_()
    y, mean, var = batch_norm(x, torch.ones(3), torch.zeros(3), cross=SINGLE)
    assert (y.dtype, mean.dtype, var.dtype) == (torch.bfloat16, torch.float32, torch.float32)
    y.sum().backward()
    assert x.grad is not None
    assert x.grad.dtype == torch.bfloat16


@pytest.mark.parametrize(
    ("shape", "channels", "residual", "groups"),
    [((4, 3, 2), 4, None, 1), ((5, 3), 3, None, 2), ((0, 3), 3, None, 1), ((4, 3), 3, (4, 2), 1), ((4,), 4, None, 1)],
)
def test_shapes_that_do_not_fit_are_refused(
    shape: tuple[int, ...], channels: int, residual: tuple[int, ...] | None, groups: int
) -> None:
    other = None if residual is None else torch.zeros(residual)
    with pytest.raises(ValueError, match=r"batch_norm takes|cannot be|residual is"):
        batch_norm(torch.zeros(shape), torch.ones(channels), torch.zeros(channels), other, cross=SINGLE, groups=groups)


def test_compiled_it_has_the_same_gradients() -> None:
    torch.manual_seed(0)
    inputs = [torch.randn(6, 5, 3, 3), torch.rand(5), torch.rand(5)]
    outcomes = []
    for backend in (None, "aot_eager"):
        tensors = [x.clone().requires_grad_() for x in inputs]

        def loss(*given: torch.Tensor) -> torch.Tensor:
            return batch_norm(*given, cross=SINGLE, groups=2, relu=True)[0].sin().sum()

        run = loss if backend is None else torch.compile(loss, backend=backend, fullgraph=True)
        outcomes.append(torch.autograd.grad(run(*tensors), tensors))
    for found, expected in zip(*outcomes, strict=True):
        torch.testing.assert_close(found, expected)
