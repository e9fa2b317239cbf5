"""The whole network as other programs run it: pictures in, embeddings and regions out, nothing else to know.

    images (B, 3, S, S), RGB from 0 to 1 -> embedding (B, D), features (B, C), regions (B, Q, D), heatmaps (B, Q, H, W)

The mean and the deviation of the colours are inside. S is the side that the network was trained at.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from fra_dist.config import Config, parse_config
from fra_dist.errors import CheckpointError, ConfigError
from fra_dist.files import exists, is_folder
from fra_dist.layouts.shipped_weights import find_weights
from fra_dist.layouts.weights import is_exported_folder, open_weights
from fra_dist.models.fra import FRA
from fra_dist.models.fra_network import FRANetwork
from fra_dist.train.checkpoints.reading import MANIFEST
from fra_dist.train.checkpoints.restoring import load_model

NETWORKS = ("online", "target")
OUTPUTS = {
    "embedding": "(B, D) projection of the mean over the backbone's map",
    "features": "(B, C) mean over the backbone's map",
    "regions": "(B, Q, D) projection of each region's features",
    "heatmaps": "(B, Q, H, W) soft assignment of each cell of the map to the regions",
}
"""Each output by name; the last two are of networks with regions only."""


class InferenceNetwork(nn.Module):
    """A network in eval mode behind its normalisation: images (B, 3, S, S) from 0 to 1 -> the outputs, as a tuple."""

    mean: Tensor
    """(3, 1, 1) buffer."""
    std: Tensor
    """(3, 1, 1) buffer."""

    def __init__(self, network: FRANetwork, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        self.network = network
        self.register_buffer("mean", torch.tensor(list(mean)).view(3, 1, 1))
        self.register_buffer("std", torch.tensor(list(std)).view(3, 1, 1))
        self.eval().requires_grad_(False)

    @property
    def outputs(self) -> tuple[str, ...]:
        """Names of the outputs, in order."""
        names = tuple(OUTPUTS)
        return names if self.network.has_regions else names[:2]

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """The outputs that `outputs` names, float32."""
        said = self.network.infer((images - self.mean) / self.std)
        found = [said.embedding, said.features.mean(dim=(2, 3)), said.local_embedding, said.heatmap]
        return tuple(one for one in found if one is not None)


@dataclass(frozen=True)
class Exported:
    """What is exported: a model of a checkpoint, and which of its two networks."""

    model: FRA
    """The model, in eval mode."""
    config: Config
    """Configuration of the run."""
    step: int
    """Optimiser steps that were done."""
    network: str
    """`online` or `target`."""
    alone: bool = False
    """Whether the other network and the predictors are not known, as of a network that was exported before."""

    @property
    def chosen(self) -> FRANetwork:
        """The network that is exported."""
        return getattr(self.model, self.network)  # type: ignore[no-any-return]

    def inference(self) -> InferenceNetwork:
        """The chosen network with its normalisation."""
        return InferenceNetwork(self.chosen, self.config.data.mean, self.config.data.std)

    def images(self, count: int = 2) -> Tensor:
        """Fixed noise in the form of photos, (count, 3, S, S) from 0 to 1, that an export is tried with."""
        side = self.config.data.image_size
        return torch.rand(count, 3, side, side, generator=torch.Generator().manual_seed(count))


def open_exported(checkpoint: str | Path, network: str = "online") -> Exported:
    """The model of a checkpoint or of a run's newest one, or a network that was exported before (`exported_before`).

    Raises CheckpointError, or ConfigError for `network`.
    """
    if network not in NETWORKS:
        raise ConfigError(f"network {network!r} is not one of {', '.join(NETWORKS)}")
    if (weights := exported_before(checkpoint)) is not None:
        return _open_network(weights, network)
    model, config, info = load_model(checkpoint)
    return Exported(model.eval(), config, int(info.get("step", 0)), network)


def exported_before(given: str | Path) -> Path | None:
    """Where the exported network lies that `given` means; None when it means a run or a checkpoint.

    It is the name of weights in the package, a `.safetensors` file that is not part of a checkpoint, or a folder for
    Hugging Face. Raises CheckpointError for weights in the package that are damaged.
    """
    place = Path(given)
    if not exists(place):
        return find_weights(str(given))
    if is_folder(place):
        return place if is_exported_folder(place) else None
    return place if place.suffix == ".safetensors" and not exists(place.parent / MANIFEST) else None


def _open_network(place: Path, network: str) -> Exported:
    weights = open_weights(place)
    if weights.kind != "network":
        raise CheckpointError(
            f"{place} holds {weights.layout}: an export starts from a run, or from a whole network that "
            "fra-dist export wrote (--format network or huggingface)"
        )
    if weights.facts.get("network") != network:
        raise CheckpointError(f"{place} holds the {weights.facts.get('network')} network alone, not the {network} one")
    config = parse_config(weights.settings, where=str(place))
    model = FRA(config.model)
    try:
        getattr(model, network).load_state_dict(weights.state)
    except RuntimeError as error:
        raise CheckpointError(f"{place} is damaged: {' '.join(str(error).split())[:200]}") from None
    return Exported(model.eval(), config, int(weights.facts.get("step") or 0), network, alone=True)


def largest_difference(ours: Sequence[Tensor], theirs: Sequence[Any]) -> float:
    """Largest difference between outputs, relative to the largest value of each output (1e-6 at least)."""
    worst = 0.0
    for own, other in zip(ours, theirs, strict=True):
        found = torch.as_tensor(other).double()
        if found.shape != own.shape:
            return float("inf")
        gap = (found - own.double()).abs().max() / own.double().abs().max().clamp_min(1e-6)
        worst = max(worst, float(gap.nan_to_num(float("inf"))))
    return worst
