"""What an engine is: it carries the training step. DeepSpeed and plain PyTorch do so with the same results.

Weights stay fp32 and the arithmetic of forward and backward is autocast: DeepSpeed's own bf16 mode would keep the
target network in bf16, where an EMA with momentum 0.996 does not move most weights.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from fra_dist.config import Config
from fra_dist.models.outputs import FRAOutput
from fra_dist.train.engines.gradient_noise import GradientNoise


@dataclass(frozen=True)
class Update:
    """What became of an optimiser step: 0-dim tensors on the device, equal on every rank."""

    applied: Tensor
    """1.0, or 0.0 when the loss or a gradient was not finite and everything stays as it was before the step."""
    gradient_norm: Tensor
    """The norm of the whole gradient, averaged over ranks and micro batches, before clipping."""


class Engine(Protocol):
    """What carries a training step: for each micro batch it is called for the forward pass, then `differentiate` is.

    `update` ends the step.
    """

    noise: GradientNoise | None
    """The gradient noise scale, measured with log.gradient_noise; None without."""

    def __call__(self, view1: Tensor, view2: Tensor, last: bool, *local_views: Tensor) -> FRAOutput:
        """Run the forward pass of a micro batch on views of (B, 3, S, S); `last`: the last micro batch of the step."""
        ...

    def differentiate(self, loss: Tensor, last: bool) -> None:
        """Compute the gradients of a micro batch; `last`: the last one of the step.

        `loss` is the mean over the micro batch; gradients are averaged over micro batches and ranks. A CUDA graph may
        hold this and the forward pass, so nothing that the host counts belongs here.
        """
        ...

    def update(self, total: Tensor) -> Update:
        """Update the weights by the gradients of all micro batches. `total` is the loss summed over these.

        A loss or gradient that is not finite, on any rank and in any micro batch, leaves weights and optimiser as they
        were; that is decided on the device.
        """
        ...

    def model_state(self) -> dict[str, Tensor]:
        """Return every parameter and buffer by name. Every rank calls it."""
        ...

    def load_model_state(self, saved: Mapping[str, Tensor]) -> None:
        """Load what `model_state` gave, at any time. Every rank calls it."""
        ...

    def optimizer_state(self) -> dict[str, Tensor]:
        """Return the optimiser's state, whole tensors by PARAMETER/STATE.

        Every rank calls it, and rank 0 gets all of it.
        """
        ...

    def load_optimizer_state(self, saved: Mapping[str, Tensor]) -> None:
        """Load what `optimizer_state` gave, at any world size and ZeRO stage. Every rank calls it.

        Raises CheckpointError on an unknown name.
        """
        ...

    def close(self) -> None:
        """Release what the engine holds; the process group stays."""
        ...


def precision_of(config: Config, device: torch.device) -> torch.dtype:
    """Return the autocast type of a run. `auto` is bfloat16 on a GPU and float32 on a CPU here; a run that the trainer
    prepares has decided it before (`train/precision.py`).
    """
    if config.train.precision == "auto":
        return torch.bfloat16 if device.type == "cuda" else torch.float32
    return torch.bfloat16 if config.train.precision == "bf16" else torch.float32


def parameter_names(model: nn.Module) -> dict[Tensor, str]:
    """Return the name of each parameter in the model: {parameter: "online.backbone.conv1.weight"}."""
    return {parameter: name for name, parameter in model.named_parameters()}


@torch.no_grad()
def judge_gradients(
    optimizer: Any,
    gradients: list[Tensor],
    loss: Tensor,
    clip: float | None,
    sum_ranks: Callable[[Tensor], Tensor],
    *,
    shared: bool,
    noise: GradientNoise | None = None,
) -> Update:
    """Measure the gradient after backward, clip it in place, and decide on the device whether it may be used.

    `gradients` are averaged over ranks: all of them or, when `shared`, this rank's part. `loss` is this rank's sum over
    micro batches. The decision reaches the optimiser through `found_inf`, without a host synchronisation. Every rank
    calls it: the norm and the loss are summed over the ranks.
    """
    norm = nn.utils.get_total_norm(gradients).double()
    totals = sum_ranks(torch.stack([norm.square(), loss.double()]))
    if shared:
        norm = totals[0].sqrt()
    fine = (totals - totals == 0).all()  # neither infinite nor NaN, in fewer launches than isfinite
    if noise is not None:
        noise.note(gradients, fine)
    if clip is not None:
        torch._foreach_mul_(gradients, (clip / (norm + 1e-6)).clamp(max=1.0).to(gradients[0].dtype))
    applied = fine.float()
    optimizer.found_inf = 1 - applied
    return Update(applied, norm.float())
