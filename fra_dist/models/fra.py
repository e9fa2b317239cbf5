"""FRA (Gao and Patras, CVPR 2024, arXiv 2403.02138): an online network, its EMA copy, and the predictors.

Legend of every shape in this package: B images of this rank, C backbone channels, H×W map, Q regions, D width of the
embeddings, K hidden width of the heads.
"""

import copy
from dataclasses import dataclass, fields
from typing import Self

import torch
from torch import Tensor, nn

from fra_dist.config import ModelConfig
from fra_dist.dist import SINGLE, CrossRank
from fra_dist.kernels.region_attention import heatmaps, region_attention
from fra_dist.models.backbone import build_backbone, channels_of, check_map, map_size
from fra_dist.models.decoder import RegionDecoder
from fra_dist.models.heads import Head
from fra_dist.models.norm import synchronise_norms
from fra_dist.models.recompute import statistics_kept
from fra_dist.models.revival import Revival


@dataclass(frozen=True)
class NetworkOutput:
    """What a network makes of one view. The local half is None without a decoder (plain BYOL)."""

    features: Tensor
    """(B, C, H, W) backbone map."""
    global_embedding: Tensor
    """(B, D)"""
    pixels: Tensor | None = None
    """(B, D, H, W) pixel projections, not normalised."""
    mask_embedding: Tensor | None = None
    """(B, Q, D) of each image, before the mean over images."""
    prototypes: Tensor | None = None
    """(Q, D) mean mask embedding over all images of all ranks."""
    similarity: Tensor | None = None
    """(B, Q, H, W) cosines, fp32."""
    local_embedding: Tensor | None = None
    """(B, Q, D)"""

    def chunk(self, count: int) -> tuple[Self, ...]:
        """Of `count` views whose images lie end to end, each view's."""
        tensors = {f.name: getattr(self, f.name) for f in fields(self)}
        parts = {n: [t] * count if t is None or n == "prototypes" else t.chunk(count) for n, t in tensors.items()}
        return tuple(type(self)(**{n: some[i] for n, some in parts.items()}) for i in range(count))


@dataclass(frozen=True)
class Inference:
    """What a network in eval mode says of images; the local half is None without a decoder."""

    features: Tensor
    """(B, C, H, W)"""
    embedding: Tensor
    """(B, D) global projection."""
    similarity: Tensor | None = None
    """(B, Q, H, W) cosine of each pixel with each prototype."""
    heatmap: Tensor | None = None
    """(B, Q, H, W) soft assignment of each pixel to the regions."""
    local_embedding: Tensor | None = None
    """(B, Q, D)"""


@dataclass(frozen=True)
class FRAOutput:
    """Both networks on both views, and the predictors on the online embeddings. Target tensors carry no gradient."""

    online: tuple[NetworkOutput, NetworkOutput]
    target: tuple[NetworkOutput, NetworkOutput]
    prediction: tuple[Tensor, ...]
    """(B, D) an online view: the two, then the local views."""
    local_prediction: tuple[Tensor, ...] | None
    """(B, Q, D) an online view."""
    local_views: tuple[NetworkOutput, ...] = ()
    """The online network on each local view; they have no mask embeddings."""


class FRANetwork(nn.Module):
    """Backbone, projectors, region decoder, and the prototypes that stand in for the batch at inference."""

    prototypes: Tensor

    def __init__(self, config: ModelConfig, backbone: nn.Module, cross: CrossRank) -> None:
        super().__init__()
        channels = channels_of(backbone)
        self.temperature = config.heatmap_temperature
        self.final_temperature = config.heatmap_temperature_end or config.heatmap_temperature
        self.prototype_momentum = config.prototype_momentum
        self.cross = cross
        self.backbone = backbone
        self.projector = Head(channels, config.hidden, config.width)
        self.pixel_projector: Head | None = None
        self.local_projector: Head | None = None
        self.decoder: RegionDecoder | None = None
        if config.decoder is not None:
            self.pixel_projector = Head(channels, config.hidden, config.width)
            self.local_projector = Head(channels, config.hidden, config.width)
            self.decoder = RegionDecoder(
                channels, config.width, config.regions, config.decoder, movable=config.revive_dead is not None
            )
            self.register_buffer("prototypes", torch.randn(config.regions, config.width))

    def forward(self, images: Tensor) -> NetworkOutput:
        """(B, 3, S, S) images -> everything the losses need. In training mode the prototypes follow the batch."""
        features = self._features(images)
        embedding = self.projector(features.mean(dim=(2, 3)))
        if self.decoder is None:
            return NetworkOutput(features, embedding)
        mask_embedding = self.decoder(features)
        prototypes = self._batch_prototypes(mask_embedding) if self.training else self.prototypes
        pixels, similarity, local = self._regions(features, prototypes)
        return NetworkOutput(features, embedding, pixels, mask_embedding, prototypes, similarity, local)

    def infer(self, images: Tensor) -> Inference:
        """(B, 3, S, S) images, each on its own. Needs eval mode (RuntimeError otherwise) and changes no state.

        Heatmaps have the temperature that training ends with.
        """
        if self.training:
            raise RuntimeError("infer needs a network in eval mode: call .eval() first")
        features = self._features(images)
        embedding = self.projector(features.mean(dim=(2, 3)))
        if self.decoder is None:
            return Inference(features, embedding)
        _, similarity, local = self._regions(features, self.prototypes)
        return Inference(features, embedding, similarity, heatmaps(similarity, self.final_temperature), local)

    def look_at_part(self, images: Tensor, prototypes: Tensor | None) -> NetworkOutput:
        """Small crops (B, 3, S, S) -> as `forward`, with the prototypes of whole views in place of their own mean.

        Prototypes are those of the batch, (Q, D), so that regions of a crop are those of the views; the buffer does not
        follow.
        """
        features = self._features(images)
        embedding = self.projector(features.mean(dim=(2, 3)))
        if prototypes is None:
            return NetworkOutput(features, embedding)
        pixels, similarity, local = self._regions(features, prototypes)
        return NetworkOutput(features, embedding, pixels, None, prototypes, similarity, local)

    def _features(self, images: Tensor) -> Tensor:
        features = self.backbone(images)
        check_map(features, images.shape[2], images.shape[3])
        return features

    def _batch_prototypes(self, mask_embedding: Tensor) -> Tensor:
        """(B, Q, D) -> (Q, D) mean over all images of all ranks, which the buffer follows."""
        exact = torch.promote_types(mask_embedding.dtype, torch.float32)
        mean = self.cross.mean(mask_embedding.to(exact).mean(dim=0))
        with torch.no_grad():
            self.prototypes.lerp_(mean.to(self.prototypes.dtype), 1 - self.prototype_momentum)
        return mean

    def _regions(self, features: Tensor, prototypes: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        assert self.pixel_projector is not None
        assert self.local_projector is not None
        pixels = self.pixel_projector.over_pixels(features)
        temperature = self.temperature if self.training else self.final_temperature
        similarity, regions = region_attention(features, pixels, prototypes, temperature)
        return pixels, similarity, self.local_projector.over_regions(regions)


class FRA(nn.Module):
    """The model that is trained. `target` starts as a copy of `online` and takes no gradient.

    `backbone` is any module that maps images to (B, out_channels, H, W); null builds `config.backbone`. With several
    ranks every batch norm is replaced by one over all of them. Raises ConfigError for a backbone that cannot be used.
    """

    def __init__(self, config: ModelConfig, cross: CrossRank = SINGLE, backbone: nn.Module | None = None) -> None:
        super().__init__()
        self.online = FRANetwork(config, build_backbone(config.backbone) if backbone is None else backbone, cross)
        self.predictor = Head(config.width, config.hidden, config.width)
        self.local_predictor = Head(config.width, config.hidden, config.width) if config.decoder else None
        synchronise_norms(self, cross)
        self.target = copy.deepcopy(self.online).requires_grad_(False)
        self.revival = Revival(config.revive_dead, config.regions, cross) if config.revive_dead else None

    def forward(self, view1: Tensor, view2: Tensor, *local_views: Tensor) -> FRAOutput:
        """Two views (B, 3, S, S) of the same images. Statistics of batch norm are those of one view.

        local_views: small crops of them, (B, 3, s, s) each, for the online network alone; it sees them all together.
        """
        online = self.online(view1), self.online(view2)
        with torch.no_grad():
            target = self.target(view1), self.target(view2)
        crops = self._look_at_parts(local_views, online) if local_views else ()
        seen = (*online, *crops)
        prediction = tuple(self.predictor(view.global_embedding) for view in seen)
        local = None
        if self.local_predictor is not None:
            local = tuple(self.local_predictor.over_regions(view.local_embedding) for view in seen)
        if self.revival is not None and self.training:
            self.revival.note([view.similarity for view in online])
        return FRAOutput(online, target, prediction, local, crops)

    def _look_at_parts(
        self, views: tuple[Tensor, ...], online: tuple[NetworkOutput, NetworkOutput]
    ) -> tuple[NetworkOutput, ...]:
        one, two = (view.prototypes for view in online)
        prototypes = None if one is None or two is None else (one + two) / 2
        with statistics_kept(self.online):  # those that inference uses are of whole views
            return self.online.look_at_part(torch.cat(views), prototypes).chunk(len(views))

    def set_heatmap_temperature(self, temperature: float) -> None:
        """For training from here on; inference has that of the last step."""
        self.online.temperature = self.target.temperature = temperature

    def set_dropout_keys(self, keys: Tensor | None) -> None:
        """For the next forward pass: one key an image (B,), see `dropout.image_keys`."""
        for network, part in ((self.online, 0), (self.target, 1)):
            if network.decoder is not None:
                network.decoder.dropout.start(None if keys is None else keys ^ part)

    def revive_regions(self, seed: int) -> None:
        """After the optimiser's step: with `revive_dead`, start dead regions anew. seed: the same on every rank."""
        if self.revival is not None:
            assert self.online.decoder is not None
            assert self.target.decoder is not None
            self.revival.update(self.online.decoder, self.target.decoder, seed)

    def check_image_size(self, size: int) -> tuple[int, int]:
        """(H, W) of the map for square images of `size` pixels. Raises ConfigError if it is below 2×2."""
        return map_size(self.online.backbone, size, size)
