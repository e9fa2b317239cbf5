"""Baselines that a score should be read beside: an untrained network of the same kind, and the pixels themselves.

Both go through the same protocol as the network under test: the same faces, parts, readers and draws of labels. They
are measured without intervals and without fine-tuning.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch.nn import functional

from fra_dist.eval.features.encoder import Encoder
from fra_dist.eval.regions.segmenters import randomised, regions_of
from fra_dist.eval.tasks.common import TaskInput, TaskResult

UNTRAINED, PIXELS = "untrained", "pixels"
BESIDE = (UNTRAINED, PIXELS)
BY_REGIONS = ("regions", "consistency")
"""Tasks that ask for a map. Their pixels baseline is colours, clustered; elsewhere it is grey values, read linearly."""
SIDE = 32
"""Side of the pixel baselines' small pictures, in pixels."""


class Constant(nn.Module):
    """A face as nothing: readers of it answer what is best without looking. (B, 3, S, S) -> (B, 1, 1, 1) of zeros."""

    out_channels = 1

    def __init__(self) -> None:
        super().__init__()
        self.value = nn.Parameter(torch.zeros(()), requires_grad=False)

    def forward(self, images: Tensor) -> Tensor:
        """Return zeros (B, 1, 1, 1) for images (B, 3, S, S)."""
        return self.value.expand(len(images), 1, 1, 1)


class GreyPixels(nn.Module):
    """A face as 32×32 grey pixels, which linear readers read as features: (B, 3, S, S) -> (B, 1024, 1, 1)."""

    out_channels = SIDE * SIDE
    """Channels of the map, one for each pixel."""

    def __init__(self) -> None:
        super().__init__()
        self.weights = nn.Parameter(torch.tensor([0.299, 0.587, 0.114]), requires_grad=False)

    def forward(self, images: Tensor) -> Tensor:
        """The grey pixels as the channels of a 1×1 map: (B, 3, S, S) -> (B, 1024, 1, 1)."""
        grey = torch.einsum("bchw,c->bhw", images, self.weights)[:, None]
        return functional.adaptive_avg_pool2d(grey, SIDE).flatten(1)[:, :, None, None]


class ColourPixels(nn.Module):
    """A face as a map of 32×32 colours, which k-means clusters: (B, 3, S, S) -> (B, 3, 32, 32)."""

    out_channels = 3
    """Channels of the map: red, green and blue."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(()), requires_grad=False)

    def forward(self, images: Tensor) -> Tensor:
        """The picture scaled to a map of colours: (B, 3, S, S) -> (B, 3, 32, 32)."""
        return functional.adaptive_avg_pool2d(images, SIDE) * self.scale


def pixels_encoder(size: int, colours: bool = False) -> Encoder:
    """An encoder whose features are the grey pixels, or the colours, of faces of `size` pixels."""
    backbone = ColourPixels() if colours else GreyPixels()
    return Encoder("pixels", backbone.eval(), size, [0.5] * 3, [0.25] * 3, None)


def constant_encoder(size: int) -> Encoder:
    """The same features for every face: linear readers then answer the mean, or the most frequent class."""
    return Encoder("guess", Constant().eval(), size, [0.5] * 3, [0.25] * 3, None)


def untrained_encoder(encoder: Encoder, seed: int) -> Encoder:
    """A network of the same kind with fresh weights: the whole network where its configuration is known,
    else the backbone."""
    if encoder.fresh is None:
        return replace(randomised(encoder, seed), name=UNTRAINED)
    torch.manual_seed(seed + 1)
    network = encoder.fresh().eval().to(encoder.device)
    return replace(encoder, name=UNTRAINED, backbone=network.backbone, network=network)


@dataclass(frozen=True)
class Beside:
    """The scores of one baseline on a task, to be read beside those of the network under test."""

    name: str
    """Name of the baseline, one of BESIDE."""
    scores: dict[str, float]
    """Value of each score, under the task's own names."""
    seconds: float
    """How long the baseline took, in seconds."""


def measure_beside(
    job: TaskInput, run: Callable[[TaskInput], TaskResult], task: str, which: Sequence[str]
) -> list[Beside]:
    """The task's scores of each baseline in `which` (of BESIDE), under the same names."""
    modes = tuple(mode for mode in job.settings.modes if mode != "finetune") or ("linear",)
    regions = regions_of(job.encoder, job.settings.regions)
    settings = job.settings.model_copy(update={"bootstrap": 0, "modes": modes, "regions": regions})
    found = []
    for name in which:
        began = time.monotonic()
        if name == PIXELS:
            other = replace(pixels_encoder(job.encoder.size, task in BY_REGIONS), cache=job.encoder.cache)
            settings_now = settings.model_copy(update={"embedding": "pooled"})
        else:
            other, settings_now = untrained_encoder(job.encoder, job.settings.seed), settings
        result = run(TaskInput(other, job.prepared, settings_now, job.cache))
        values = {key: score.value for key, score in result.scores.items()}
        found.append(Beside(name, values, round(time.monotonic() - began, 1)))
    return found
