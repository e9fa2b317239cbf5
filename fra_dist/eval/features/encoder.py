"""A network under test, whatever it came from: a backbone and how its photos are prepared, maybe with regions.

N faces, C channels, H×W map, Q regions, D width of the projection.
"""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from fra_dist.eval.features.feature_cache import Cache
from fra_dist.eval.features.prepared_faces import PreparedFaces
from fra_dist.models.fra_network import FRANetwork

LARGEST_MAP = 32768
"""Most numbers of a flattened map that linear readers get; a larger one is pooled to a coarser grid first."""
BATCH = 64


@dataclass(frozen=True)
class Encoder:
    """A backbone with how its photos are prepared, and the whole network where there is one."""

    name: str
    """Name of the run or file that the weights came from."""
    backbone: nn.Module
    """The backbone in eval mode: (B, 3, S, S) -> (B, C, H, W)."""
    size: int
    """Side S of its photos, in pixels."""
    mean: Sequence[float]
    """Mean of each colour channel, from 0 to 1, that is subtracted."""
    std: Sequence[float]
    """Standard deviation of each colour channel, that is divided by."""
    network: FRANetwork | None = None
    """The whole network, when it is one of this project's: its projection, and its heatmaps if it has a decoder."""
    about: dict[str, Any] = field(default_factory=dict)
    """Where the network came from, for the results."""
    cache: Cache = field(default_factory=lambda: Cache(None))
    """Where `maps` and `similarity` keep what they have computed, under the weights and the photos."""

    fresh: Callable[[], FRANetwork] | None = None
    """Makes a network of the same configuration with random weights; None where only the backbone's kind is known."""

    @property
    def device(self) -> torch.device:
        """The device that the backbone's parameters are on, where photos are encoded."""
        return next(self.backbone.parameters()).device

    def pixels(self, photos: NDArray[np.uint8]) -> Tensor:
        """Photos as the network takes them: (B, S, S, 3) uint8 -> (B, 3, S, S) normalised, on its device,
        in its precision."""
        one = next(self.backbone.parameters())
        scale, shift = (torch.tensor(v, device=one.device).view(1, 3, 1, 1) for v in (self.std, self.mean))
        images = torch.from_numpy(np.array(photos)).to(one.device).permute(0, 3, 1, 2).float()
        return images.div_(255).sub_(shift).div_(scale).to(one.dtype)

    @torch.inference_mode()
    def maps(self, photos: NDArray[np.uint8]) -> Tensor:
        """The backbone's maps of photos (B, S, S, 3): (B, C, H, W) float32 on the CPU."""
        return self._kept("maps", photos, lambda some: self.backbone(self.pixels(some)))

    @torch.inference_mode()
    def similarity(self, photos: NDArray[np.uint8]) -> Tensor:
        """Similarities of photos (B, S, S, 3) with the prototypes: (B, Q, H, W) on the CPU.

        Raises RuntimeError for a network without a decoder.
        """
        network = self.network
        if network is None or not network.has_regions:
            raise RuntimeError("this network has no region decoder")
        return self._kept("similarity", photos, lambda some: cast(Tensor, network.infer(self.pixels(some)).similarity))

    @torch.inference_mode()
    def projections(self, photos: NDArray[np.uint8]) -> Tensor:
        """The pixel projections that prototypes are compared with: (B, D, H, W) on the CPU, of photos (B, S, S, 3).

        For a network without a pixel projector it is the map itself.
        """
        network = self.network
        if network is None or network.pixel_projector is None:
            return self.maps(photos)
        one = next(network.pixel_projector.parameters())
        parts = self.maps(photos).to(one.device, one.dtype).split(BATCH)
        return torch.cat([network.pixel_projector.over_pixels(some).float().cpu() for some in parts])

    def _kept(self, what: str, photos: NDArray[np.uint8], compute: Callable[[NDArray[np.uint8]], Tensor]) -> Tensor:
        """Of batches of photos: from the cache, or computed and kept there."""
        found = []
        for some in _batches(photos):
            if self.cache.folder is None:
                found.append(compute(some).float().cpu())
                continue
            key = hashlib.blake2b(self._weights.encode() + repr(some.shape).encode(), digest_size=16)
            key.update(np.ascontiguousarray(some).data)
            name = f"{what}-{key.hexdigest()}"
            kept = self.cache.load(name, what)
            if kept is None:
                value = compute(some).float().cpu().numpy()
                with self.cache.writer(name, {what: (value.shape, value.dtype)}) as arrays:
                    arrays[what][:] = value
                kept = value
            found.append(torch.from_numpy(np.array(kept)))
        return torch.cat(found)

    @cached_property
    def _weights(self) -> str:
        return self.digest()

    @property
    def has_regions(self) -> bool:
        """Whether the network finds regions; False for a backbone alone and for plain BYOL."""
        return self.network is not None and self.network.has_regions

    def digest(self) -> str:
        """A digest of the weights and of how photos are prepared."""
        found = hashlib.blake2b(repr((self.size, list(self.mean), list(self.std))).encode(), digest_size=16)
        whole = self.backbone if self.network is None else self.network
        for name, value in sorted(whole.state_dict().items()):
            found.update(name.encode())
            found.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
        return found.hexdigest()

    def describe(self) -> dict[str, Any]:
        """What the network is and where it came from, with its digest, as plain values for the results."""
        facts = {"name": self.name, "image_size": self.size, "mean": list(self.mean), "std": list(self.std)}
        return {**facts, **self.about, "digest": self.digest()}


@dataclass(frozen=True)
class Features:
    """Features of all N faces of a prepared set; float16 arrays, mapped from the cache where there is one."""

    pooled: NDArray[np.float16]
    """(N, C) mean over the map of each face."""
    grid: NDArray[np.float16]
    """(N, C·h·w) the map, which says where things are, pooled so that it has at most LARGEST_MAP numbers."""
    projected: NDArray[np.float16] | None
    """(N, D) global projection, of this project's networks; None for a backbone alone."""

    def where(self, places: NDArray[np.int64]) -> NDArray[np.float32]:
        """Pooled and grid features of the faces at some places, side by side: (n, C + C·h·w)."""
        parts = [np.asarray(self.pooled[places], np.float32), np.asarray(self.grid[places], np.float32)]
        return np.concatenate(parts, axis=1)

    def what(self, places: NDArray[np.int64]) -> NDArray[np.float32]:
        """Pooled features of the faces at some places, (n, C)."""
        return np.asarray(self.pooled[places], np.float32)


def extract(encoder: Encoder, prepared: PreparedFaces, cache: Cache) -> Features:
    """Features of all faces, from the cache when this network has seen these faces before.

    Raises DataError when the cache cannot be written.
    """
    digest = encoder.digest() if cache.folder is not None else ""
    key = hashlib.blake2b(f"{digest} {prepared.digest} {LARGEST_MAP}".encode(), digest_size=16)
    name = f"features-{key.hexdigest()}"
    whole = encoder.network is not None
    kept = [cache.load(name, part) for part in ("pooled", "grid", "projected")]
    if kept[0] is not None and kept[1] is not None and (kept[2] is not None or not whole):
        return Features(kept[0], kept[1], kept[2])
    found = _read(encoder, prepared.photos[:BATCH])
    half = np.dtype(np.float16)
    parts = {part: ((len(prepared), value.shape[1]), half) for part, value in found.items()}
    with cache.writer(name, parts) as arrays:
        for start in range(0, len(prepared), BATCH):
            if start:
                found = _read(encoder, prepared.photos[start : start + BATCH])
            for part, value in found.items():
                arrays[part][start : start + BATCH] = value.numpy()
    return Features(arrays["pooled"], arrays["grid"], arrays.get("projected"))


@torch.inference_mode()
def _read(encoder: Encoder, photos: NDArray[np.uint8]) -> dict[str, Tensor]:
    """Features of a batch in float16 on the CPU, by the name of their part."""
    maps = encoder.backbone(encoder.pixels(photos))
    channels, height, width = maps.shape[1:]
    side = max(1, int((LARGEST_MAP / channels) ** 0.5))
    pooled = maps.mean((2, 3))
    if max(height, width) > side:
        maps = functional.adaptive_avg_pool2d(maps, (min(side, height), min(side, width)))
    found = {"pooled": pooled, "grid": maps.flatten(1)}
    if encoder.network is not None:
        found["projected"] = encoder.network.projector(pooled)
    limit = torch.finfo(torch.float16).max
    return {part: value.float().clamp(-limit, limit).half().cpu() for part, value in found.items()}


def _batches(photos: NDArray[np.uint8]) -> list[NDArray[np.uint8]]:
    return [photos[start : start + BATCH] for start in range(0, len(photos), BATCH)]
