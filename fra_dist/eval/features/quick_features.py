"""What a frozen network says of photos, kept for all probes.

N photos, C channels, H×W map, Q regions. Everything is float32 on the CPU; the maps of 1,000 photos of a ResNet-50 at
224 px take 400 MB.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from fra_dist.models.fra import FRANetwork

LARGEST_FLAT = 16384
"""Numbers of a flattened map that probes get; larger maps are pooled to a coarser grid first."""


@dataclass(frozen=True)
class Features:
    maps: Tensor
    """(N, C, H, W) of the backbone."""
    similarity: Tensor | None
    """(N, Q, H, W); None without a region decoder."""

    @property
    def pooled(self) -> NDArray[np.float32]:
        """(N, C): the mean over the map, what downstream work uses most."""
        return self.maps.mean((2, 3)).numpy()

    @property
    def flat(self) -> NDArray[np.float32]:
        """(N, C + C·h·w): the mean and the map itself, at most LARGEST_FLAT numbers of it: where things are."""
        channels, height, width = self.maps.shape[1:]
        side = max(1, int((LARGEST_FLAT / channels) ** 0.5))
        grid = functional.adaptive_avg_pool2d(self.maps, (min(side, height), min(side, width)))
        return np.concatenate([self.pooled, grid.flatten(1).numpy()], axis=1)


def extract(
    network: FRANetwork, photos: NDArray[np.uint8], mean: Sequence[float], std: Sequence[float], batch: int = 64
) -> Features:
    """Run the network over photos (N, S, S, 3), on its own device.

    Raises RuntimeError when it is not in eval mode; its state does not change.
    """
    device = next(network.parameters()).device
    scale, shift = (torch.tensor(v, device=device).view(1, 3, 1, 1) for v in (std, mean))
    maps, similarities = [], []
    with torch.inference_mode():
        for start in range(0, len(photos), batch):
            pixels = torch.from_numpy(photos[start : start + batch]).to(device).permute(0, 3, 1, 2).float() / 255
            found = network.infer((pixels - shift) / scale)
            maps.append(found.features.float().cpu())
            if found.similarity is not None:
                similarities.append(found.similarity.float().cpu())
    return Features(torch.cat(maps), torch.cat(similarities) if similarities else None)
