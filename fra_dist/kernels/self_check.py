"""Every Triton kernel against plain PyTorch in float64, on this machine's GPU, before a run trusts it.

A compiler, driver or GPU that a kernel was not tested with shows here, not in a loss curve: a kernel whose results or
gradients differ is left out for the rest of the process (`dispatch.distrust`), and the plain path runs in its place.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from fra_dist.kernels import (
    batch_norm,
    correspondence,
    decoder_attention,
    dispatch,
    dropout_mask,
    lars_ema,
    region_attention,
    relation,
)
from fra_dist.types import SINGLE

LIMITS = {torch.float32: 1e-3, torch.bfloat16: 3e-2}
"""Largest relative difference (norms of whole tensors) by the dtype of the maps; rounding is a tenth of it or less."""
Make = Callable[..., Tensor]


@dataclass(frozen=True)
class Finding:
    """How a kernel did."""

    kernel: str
    dtype: str
    difference: float
    problem: str | None
    """None: as it should be."""


def check_kernels(device: torch.device) -> list[Finding]:
    """Try every kernel on `device`, fp32 and bf16, and distrust those that fail. Takes seconds, most for compiling.

    Raises ValueError where no Triton kernel can run.
    """
    index = device.index if device.type == "cuda" else None
    obstacle = dispatch.device_obstacle(device.type, index)
    if obstacle is not None:
        raise ValueError(f"no Triton kernel can run here: {obstacle}")
    with dispatch.aside():
        found = [_try(name, run, dtype, device) for name, run in _CHECKS.items() for dtype in LIMITS]
    for finding in found:
        if finding.problem is not None:
            dispatch.distrust(finding.kernel, f"self-check in {finding.dtype}: {finding.problem}")
    return found


def _try(
    kernel: str, run: Callable[[Make, torch.dtype], list[Tensor]], dtype: torch.dtype, device: torch.device
) -> Finding:
    name = str(dtype).removeprefix("torch.")
    try:
        with dispatch.force("reference"):
            expected = run(_numbers(torch.device("cpu"), torch.float64, dtype), torch.float64)
        with dispatch.force("triton"):
            found = run(_numbers(device, dtype, dtype), dtype)
        difference = max(_difference(a, b) for a, b in zip(found, expected, strict=True))
    except Exception as error:  # whatever a compiler or a driver comes up with
        said = "".join(f": {line[:200]}" for line in str(error).splitlines()[:1])  # an assertion may say nothing
        return Finding(kernel, name, float("nan"), type(error).__name__ + said)
    fine = difference <= LIMITS[dtype]
    return Finding(kernel, name, difference, None if fine else f"results differ by {difference:.2g}")


def _difference(found: Tensor, expected: Tensor) -> float:
    found, expected = found.detach().double().cpu(), expected.detach().double()
    if found.shape != expected.shape:
        return float("inf")
    away = float((found - expected).norm() / expected.norm().clamp_min(1e-6))
    return away if away == away else float("inf")


def _numbers(device: torch.device, dtype: torch.dtype, rounded: torch.dtype) -> Make:
    """Makes the same standard normal numbers, rounded to `rounded`, whatever they are then kept in."""
    generator = torch.Generator().manual_seed(0)

    def make(*shape: int, dtype: torch.dtype = dtype, grad: bool = False) -> Tensor:
        numbers = torch.randn(shape, generator=generator).to(rounded)
        return numbers.to(device, dtype).requires_grad_(grad)

    return make


def _backward(outputs: list[Tensor], inputs: list[Tensor], make: Make) -> list[Tensor]:
    """Outputs, and gradients of a random combination of them."""
    loss = sum(((out * make(*out.shape, dtype=out.dtype)).sum() for out in outputs), start=outputs[0].new_zeros(()))
    return [*outputs, *torch.autograd.grad(loss, inputs)]


def _region_attention(make: Make, dtype: torch.dtype) -> list[Tensor]:
    features, pixels = make(3, 48, 9, 7, grad=True), make(3, 32, 9, 7, grad=True)
    prototypes = make(5, 32, grad=True)
    outputs = region_attention.region_attention(features, pixels, prototypes, 0.3)
    return _backward(list(outputs), [features, pixels, prototypes], make)


def _batch_norm(make: Make, dtype: torch.dtype) -> list[Tensor]:
    exact = torch.float64 if dtype == torch.float64 else torch.float32
    x, rest = (make(8, 24, 5, 5).contiguous(memory_format=torch.channels_last).requires_grad_() for _ in range(2))
    weight, bias = (make(24, dtype=exact, grad=True) for _ in range(2))
    out, mean, var = batch_norm.batch_norm(x, weight, bias, rest, cross=SINGLE, groups=2, relu=True)
    return [mean, var, *_backward([out], [x, rest, weight, bias], make)]


def _relation(make: Make, dtype: torch.dtype) -> list[Tensor]:
    student, teacher = make(2, 3, 5, 6, 7, grad=True), make(2, 3, 5, 6, 7)
    cross_entropy, gap, share = relation.semantic_relation(
        student, teacher, student_temperature=0.5, teacher_temperature=0.4, rounds=3, cross=SINGLE
    )
    return [share, *_backward([cross_entropy, gap], [student], make)]


def _lars_ema(make: Make, dtype: torch.dtype) -> list[Tensor]:
    exact = torch.float64 if dtype == torch.float64 else torch.float32
    shapes = ((33, 65), (70,), (4, 3, 3, 3))
    weights, velocities, targets = ([make(*shape, dtype=exact) for shape in shapes] for _ in range(3))
    gradients = [make(*shape) for shape in shapes]
    lars_ema.lars_ema(
        *(weights, gradients, velocities), weight_decay=[0.1, 0.0, 0.1], adapt=[True, False, True],
        lr=0.3, momentum=0.9, trust=0.5, targets=targets, target_momentum=0.9,
    )  # fmt: skip
    return [*weights, *velocities, *targets]


def _decoder_attention(make: Make, dtype: torch.dtype) -> list[Tensor]:
    queries, memory = make(3, 5, 64, grad=True), make(3, 30, 64, grad=True)
    code, weight, bias = make(30, 64), make(192, 64), make(192)
    weight = (weight.detach() / 8).requires_grad_()
    out = decoder_attention.decoder_attention(queries, memory, code, weight, bias, 4)
    return _backward([out], [queries, memory, weight], make)


def _correspondence(make: Make, dtype: torch.dtype) -> list[Tensor]:
    queries, keys = (make(2, 63, 40).div(6).requires_grad_() for _ in range(2))
    rows, columns = make(2, 9, dtype=torch.float32).abs() * 4, make(2, 7, dtype=torch.float32).abs() * 4
    out = correspondence.correspondence(queries, keys, rows, columns, spread=0.7, temperature=0.1)
    return _backward([out], [queries, keys], make)


def _dropout_mask(make: Make, dtype: torch.dtype) -> list[Tensor]:
    keys = torch.arange(-2, 3, device=make(1).device) * 0x1234567890ABCDEF
    return [dropout_mask.dropout_mask(keys, torch.Size((10, 3, 500)), 7, 4, 0.3)]


_CHECKS: dict[str, Callable[[Make, torch.dtype], list[Tensor]]] = {
    region_attention.KERNEL: _region_attention,
    batch_norm.KERNEL: _batch_norm,
    relation.KERNEL: _relation,
    lars_ema.KERNEL: _lars_ema,
    decoder_attention.KERNEL: _decoder_attention,
    correspondence.KERNEL: _correspondence,
    dropout_mask.KERNEL: _dropout_mask,
}
