"""Every Triton kernel against plain PyTorch in float64, on this machine's GPU, before a run trusts it.

A compiler, driver or GPU that a kernel was not tested with shows here, not in a loss curve: a kernel whose results or
gradients differ is left out for the rest of the process (`dispatch.distrust`), and the plain path runs in its place.
"""

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module

import torch
from torch import Tensor

from fra_dist.kernels import KERNELS, dispatch
from fra_dist.kernels.small_cases import Make

LIMITS = {torch.float32: 1e-3, torch.bfloat16: 3e-2}
"""Largest relative difference (norms of whole tensors) by the dtype of the maps; rounding is a tenth of it or less."""
SmallCase = Callable[[Make, torch.dtype], list[Tensor]]


@dataclass(frozen=True)
class Finding:
    """The result of comparing one Triton kernel with its plain path, in one dtype."""

    kernel: str
    """Name of the kernel, which is that of its folder."""
    dtype: str
    """Name of the dtype that it was tried in, for example "bfloat16"."""
    difference: float
    """Largest relative difference (norms of whole tensors) of a result or gradient; NaN when the kernel failed."""
    problem: str | None
    """What is wrong with the kernel, in one line; None when it agrees."""


def check_kernels(device: torch.device) -> list[Finding]:
    """Try every kernel on `device`, fp32 and bf16, and distrust those that fail. Takes seconds, most for compiling.

    Raises ValueError where no Triton kernel can run.
    """
    index = device.index if device.type == "cuda" else None
    obstacle = dispatch.device_obstacle(device.type, index)
    if obstacle is not None:
        raise ValueError(f"no Triton kernel can run here: {obstacle}")
    with dispatch.aside():
        found = [_try(name, run, dtype, device) for name, run in _small_cases().items() for dtype in LIMITS]
    for finding in found:
        if finding.problem is not None:
            dispatch.distrust(finding.kernel, f"self-check in {finding.dtype}: {finding.problem}")
    return found


def _try(kernel: str, run: SmallCase, dtype: torch.dtype, device: torch.device) -> Finding:
    name = str(dtype).removeprefix("torch.")
    try:
        with dispatch.force("reference"):
            expected = run(_numbers(torch.device("cpu"), torch.float64, dtype), torch.float64)
        with dispatch.force("triton"):
            found = run(_numbers(device, dtype, dtype), dtype)
        difference = max(_difference(a, b) for a, b in zip(found, expected, strict=True))
    except Exception as error:  # whatever a compiler or a driver comes up with
        message = "".join(f": {line[:200]}" for line in str(error).splitlines()[:1])  # an assertion may say nothing
        return Finding(kernel, name, float("nan"), type(error).__name__ + message)
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


def _small_cases() -> dict[str, SmallCase]:
    return {name: import_module(f"fra_dist.kernels.{name}.small_case").run for name in KERNELS}
