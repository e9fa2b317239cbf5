"""Checks of the Triton kernels against `reference` in float64, shared by the interpreter, the mutants and the GPU."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from fra_dist.kernels import describe, dispatch, force
from fra_dist.kernels.region_attention import EPSILON, reference, region_attention

TOLERANCE = {torch.float32: 2e-6, torch.float16: 1e-3, torch.bfloat16: 1e-2}
"""Largest error over the largest value. Similarities are fp32 always and keep fp32's."""


@dataclass(frozen=True)
class Case:
    batch: int
    channels: int
    width: int
    height: int
    breadth: int
    regions: int
    layout: str = "channels_last"
    dtype: torch.dtype = torch.float32
    temperature: float = 0.3
    epsilon: float = EPSILON
    pixel_size: float = 1.0
    prototype_size: float = 1.0
    on_device: bool = False
    """Whether the temperature is given as a tensor."""

    def inputs(self, device: str = "cpu") -> tuple[Tensor, Tensor, Tensor]:
        generator = torch.Generator().manual_seed(self.batch + self.channels + self.regions)

        def draw(size: float, dtype: torch.dtype, *shape: int) -> Tensor:
            return (torch.randn(*shape, generator=generator) * size).to(device, dtype)

        pixels = self._lay(partial(draw, self.pixel_size, self.dtype), self.width)
        prototypes = draw(self.prototype_size, torch.float32, self.width, self.regions).t()
        return self._lay(partial(draw, 1.0, self.dtype), self.channels), pixels, prototypes

    def _lay(self, draw: Callable[..., Tensor], channels: int) -> Tensor:
        """Cut last: whatever copies a tensor with gaps closes the gaps."""
        if self.layout == "sliced":  # no two dimensions can be merged, and pixels are not 1 apart
            return draw(self.batch, 2 * channels, self.height + 1, 2 * self.breadth + 1)[:, ::2, 1:, 1::2]
        if self.layout == "turned":
            return draw(self.batch, channels, self.breadth, self.height).transpose(2, 3)
        images = draw(self.batch, channels, self.height, self.breadth)
        return images.contiguous(memory_format=torch.channels_last) if self.layout == "channels_last" else images


CASES = {
    "small": Case(2, 12, 20, 3, 3, 6),
    "7x7": Case(2, 24, 240, 7, 7, 8),
    "one pixel, one region": Case(3, 204, 24, 1, 1, 1),
    "5x13, NCHW, large epsilon": Case(2, 20, 24, 5, 13, 5, layout="nchw", epsilon=1e-2),
    "10x20, sliced": Case(2, 17, 33, 10, 20, 16, layout="sliced"),
    "turned, 5 regions, large epsilon": Case(2, 36, 20, 10, 5, 5, layout="turned", epsilon=1e-2),
    "64 regions": Case(1, 72, 40, 5, 10, 64),
    "30 regions, sliced, one row": Case(2, 12, 20, 1, 65, 30, layout="sliced"),
    "one column": Case(2, 12, 20, 50, 1, 3, layout="sliced"),
    "wide": Case(5, 68, 520, 1, 3, 3),
    "hard softmax": Case(2, 12, 20, 3, 3, 6, temperature=0.005),
    "temperature on the device": Case(2, 12, 20, 3, 3, 6, temperature=0.07, on_device=True),
    "pixels below the norm floor": Case(2, 12, 20, 3, 3, 6, pixel_size=1e-13),
    "prototypes below the norm floor": Case(2, 12, 20, 3, 3, 6, prototype_size=1e-13),
    "tiny vectors": Case(2, 12, 20, 3, 3, 6, pixel_size=1e-6, prototype_size=1e-6),
    "fp16": Case(2, 24, 40, 7, 7, 8, dtype=torch.float16),
    "bf16": Case(2, 24, 40, 7, 7, 8, dtype=torch.bfloat16),
}


def gradients(
    outputs: tuple[Tensor, Tensor], inputs: tuple[Tensor, ...], given: tuple[Tensor, Tensor]
) -> tuple[Tensor, ...]:
    return torch.autograd.grad(outputs, inputs, [g.to(o.dtype) for g, o in zip(given, outputs, strict=True)])


def compare(case: Case, device: str = "cpu") -> dict[str, float]:
    """Errors of outputs and gradients relative to the largest value, from kernels that provably ran."""
    inputs = tuple(x.requires_grad_() for x in case.inputs(device))
    before = dispatch.launches.copy()
    temperature = torch.tensor(case.temperature, device=device) if case.on_device else case.temperature
    with force("triton"):
        outputs = region_attention(*inputs, temperature, case.epsilon)
    given = tuple(torch.randn(x.shape, generator=torch.Generator().manual_seed(1)).to(x) for x in outputs)
    results = *outputs, *gradients(outputs, inputs, given)
    assert dispatch.launches - before == {"region_attention": 1, "region_attention_backward": 1}
    assert describe()["region_attention"].path == "triton"
    for result, tensor in zip(results[1:], (inputs[0], *inputs), strict=True):
        assert result.dtype == tensor.dtype
    exact = tuple(x.detach().double().requires_grad_() for x in inputs)
    wanted = reference(*exact, case.temperature, case.epsilon)
    wanted = *wanted, *gradients(wanted, exact, given)
    names = ("similarity", "regions", "d features", "d pixels", "d prototypes")
    return {name: error(*pair) for name, pair in zip(names, zip(results, wanted, strict=True), strict=True)}


def check(case: Case, device: str = "cpu") -> None:
    """Raises AssertionError naming the results that are off."""
    errors = compare(case, device)
    steepness = max(1.0, 0.02 / case.temperature)  # errors of the similarities are divided by the temperature
    limit = dict.fromkeys(errors, TOLERANCE[case.dtype] * steepness) | {"similarity": TOLERANCE[torch.float32]}
    wrong = {name: error for name, error in errors.items() if not error <= limit[name]}
    assert not wrong, wrong


def check_not_a_number(device: str = "cpu") -> None:
    """NaN in each input reaches the same places as in the reference."""
    for spoiled in range(3):
        inputs = CASES["small"].inputs(device)
        inputs[spoiled][(1, 3) if spoiled == 2 else (1, 3, 2, 1)] = torch.nan
        for tensor in inputs:
            tensor.requires_grad_()
        with force("triton"):
            outputs = region_attention(*inputs, 0.3)
        given = tuple(torch.ones_like(x) for x in outputs)
        results = *outputs, *gradients(outputs, inputs, given)
        with force("reference"):
            outputs = region_attention(*inputs, 0.3)
        wanted = *outputs, *gradients(outputs, inputs, given)
        for result, right in zip(results, wanted, strict=True):
            assert torch.equal(result.isnan(), right.isnan()), f"NaN in input {spoiled}"


def check_empty_batch(device: str = "cpu") -> None:
    inputs = tuple(x.requires_grad_() for x in Case(0, 12, 20, 3, 3, 6).inputs(device))
    with force("triton"):
        outputs = region_attention(*inputs, 0.3)
    assert [tuple(x.shape) for x in outputs] == [(0, 6, 3, 3), (0, 6, 12)]
    given = tuple(torch.ones_like(x) for x in outputs)
    features, pixels, prototypes = gradients(outputs, inputs, given)
    assert features.shape == inputs[0].shape
    assert pixels.shape == inputs[1].shape
    assert torch.equal(prototypes, torch.zeros_like(prototypes))


def error(result: Tensor, wanted: Tensor) -> float:
    """Largest difference over the largest value wanted."""
    return float(
        (result.detach().double() - wanted.detach()).abs().max() / wanted.detach().abs().max().clamp_min(1e-300)
    )


OTHERS = ("split halves", "few splits", "NaN", "empty batch", "operators", "torch.compile", "refusals")
"""Checks of `interpreted.py` beside CASES."""
