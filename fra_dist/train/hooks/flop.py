"""The arithmetic of a step in FLOP, counted once on one image, and what share of the device's peak that is.

A step does, for each view, a forward pass of both networks and a backward pass of the online one, which costs two
forward passes: 3 x online + target. Multiplications and additions count separately. What fused kernels compute is not
counted (the attention of a small decoder), so the share is a little too small.
"""

import torch
from torch import nn

from fra_dist.data.order.views import views_of
from fra_dist.train.engines.protocol import precision_of
from fra_dist.train.trainer import Run

_PEAKS = {
    "H200": 989e12,
    "H100 PCIe": 756e12,
    "H100": 989e12,
    "B200": 2250e12,
    "A100": 312e12,
    "A800": 312e12,
    "A40": 150e12,
    "A10": 125e12,
    "L40S": 362e12,
    "L40": 181e12,
    "L4": 121e12,
    "RTX 4090": 165e12,
    "RTX 3090": 71e12,
    "V100": 125e12,
    "T4": 65e12,
}
"""Dense 16-bit FLOP/s by a part of the GPU's name, from NVIDIA's data sheets; the longest part that fits counts."""


def wants_flop(run: Run) -> bool:
    """Whether the FLOP are to be counted: `log.mfu`, by default on a GPU."""
    wanted = run.config.log.mfu
    return run.ctx.device.type == "cuda" if wanted is None else wanted


def flop_of_image(run: Run) -> float:
    """Count the FLOP that one image (all of its views) takes in a step; the state of the networks stays as it is."""
    model, device = run.model, run.ctx.device
    total = 0.0
    for _, size in views_of(run.config.data):
        image = torch.zeros(1, 3, size, size, device=device, dtype=run.step.dtype)
        total += 3 * _forward(model.online, image) + _forward(model.target, image)
    return total


def _forward(network: nn.Module, image: torch.Tensor) -> int:
    from torch.utils.flop_counter import FlopCounterMode  # imports Triton, for runs that count

    modes = [(module, module.training) for module in network.modules()]
    counter = FlopCounterMode(display=False)
    try:
        for module, _ in modes:
            module.training = False
        with torch.no_grad(), counter:
            network.infer(image)  # type: ignore[operator]
    finally:
        for module, mode in modes:
            module.training = mode
    return int(counter.get_total_flops())


def speed_in_flop(run: Run, flop: float, images_per_second: float) -> dict[str, float]:
    """Return speed/tflops, of one rank, and on a GPU whose peak is known, in bf16, speed/mfu, the share of it."""
    rate = flop * images_per_second / run.ctx.world
    found = {"speed/tflops": rate / 1e12}
    if run.ctx.device.type == "cuda" and precision_of(run.step.config, run.ctx.device) == torch.bfloat16:
        peak = peak_of(torch.cuda.get_device_name(run.ctx.device))
        if peak is not None:
            found["speed/mfu"] = rate / peak
    return found


def peak_of(name: str) -> float | None:
    """Return the dense 16-bit FLOP/s of a GPU by its name; None when it is not known."""
    fitting = [part for part in _PEAKS if part in name]
    return _PEAKS[max(fitting, key=len)] if fitting else None
