"""FRA (Gao and Patras, CVPR 2024, arXiv 2403.02138): an online network, its EMA copy, and the predictors.

Legend of every shape in this package: B images of this rank, C backbone channels, H×W map, Q regions, D width of the
embeddings, K hidden width of the heads.
"""

import copy
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from fra_dist.config import ModelConfig
from fra_dist.distributed import SINGLE, CrossRank
from fra_dist.errors import ConfigError
from fra_dist.kernels.region_attention import heatmaps, pooled, region_attention
from fra_dist.models.backbone import build_backbone, channels_of, check_map, map_size
from fra_dist.models.clusters import Clusters
from fra_dist.models.decoder import RegionDecoder
from fra_dist.models.heads import MLPHead
from fra_dist.models.norm import can_be_grouped, in_groups, synchronise_norms
from fra_dist.models.outputs import FRAOutput, Inference, NetworkOutput
from fra_dist.models.recompute import statistics_kept
from fra_dist.models.revival import Revival


class FRANetwork(nn.Module):
    """Backbone, projectors and region decoder, with the prototypes that replace the mean over the batch at inference.

    With `prototypes: clusters` in the configuration, clusters take the decoder's place, whose prototypes are the same
    in training and at inference.
    """

    prototypes: Tensor
    """(Q, D) buffer: the running mean of the batches' prototypes, or the cluster centres."""

    def __init__(self, config: ModelConfig, backbone: nn.Module, cross: CrossRank) -> None:
        super().__init__()
        channels = channels_of(backbone)
        self.temperature = config.heatmap_temperature
        self.final_temperature = config.heatmap_temperature_end or config.heatmap_temperature
        self.prototype_momentum = config.prototype_momentum
        self.cross = cross
        self.backbone = backbone
        self.projector = MLPHead(channels, config.hidden, config.width)
        self.pixel_projector: MLPHead | None = None
        self.local_projector: MLPHead | None = None
        self.decoder: RegionDecoder | None = None
        self.clusters: Clusters | None = None
        self.detach_pooling, self.detach_relation = config.detach_pooling, config.detach_relation
        if config.has_pixel_head:
            self.pixel_projector = MLPHead(channels, config.hidden, config.width)
        if config.decoder is None:
            return
        self.local_projector = MLPHead(channels, config.hidden, config.width)
        if config.prototypes == "clusters":
            self.clusters = Clusters(config, cross)
            self.register_buffer("prototypes", functional.normalize(torch.randn(config.regions, config.width), dim=1))
            return
        self.decoder = RegionDecoder(
            channels, config.width, config.regions, config.decoder, movable=config.revive_dead is not None
        )
        self.register_buffer("prototypes", torch.randn(config.regions, config.width))

    @property
    def has_regions(self) -> bool:
        """Whether the network finds regions; False for plain BYOL."""
        return self.local_projector is not None

    def forward(self, images: Tensor, views: int = 1) -> NetworkOutput:
        """Everything the losses need, from images (B, 3, S, S). In training mode the prototypes follow the batch.

        With `views` V above 1, images are (V B, 3, S, S), the views end to end: the result, and the state that follows,
        are what a pass over each view would give.
        """
        with in_groups(self, views):
            features = self._features(images)
            embedding = self.projector(features.mean(dim=(2, 3)))
            if not self.has_regions:
                head = self.pixel_projector
                return NetworkOutput(features, embedding, None if head is None else head.over_pixels(features))
            mask_embedding = None if self.decoder is None else self.decoder(features)
            prototypes = self.prototypes
            if mask_embedding is not None and self.training:
                prototypes = self._batch_prototypes(mask_embedding, views)
            pixels, similarity, local = self._regions(features, prototypes)
            if self.clusters is not None and self.training:
                self.clusters.note(pixels, similarity, prototypes, views)
        return NetworkOutput(features, embedding, pixels, mask_embedding, prototypes, similarity, local)

    def infer(self, images: Tensor) -> Inference:
        """Embedding, similarities and heatmaps of images (B, 3, S, S), each on its own.

        Needs eval mode (RuntimeError otherwise) and changes no state. Heatmaps have the temperature that training ends
        with.
        """
        if self.training:
            raise RuntimeError("infer needs a network in eval mode: call .eval() first")
        features = self._features(images)
        embedding = self.projector(features.mean(dim=(2, 3)))
        if not self.has_regions:
            return Inference(features, embedding)
        _, similarity, local = self._regions(features, self.prototypes)
        return Inference(features, embedding, similarity, heatmaps(similarity, self.final_temperature), local)

    def look_at_part(self, images: Tensor, prototypes: Tensor | None) -> NetworkOutput:
        """The output of `forward` for small crops (B, 3, S, S), with the prototypes of whole views in place of their
        own mean.

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

    def _batch_prototypes(self, mask_embedding: Tensor, views: int) -> Tensor:
        """(V B, Q, D) -> (V, Q, D), or (Q, D) of one view: means over all images of all ranks, which the buffer follows
        one after the other."""
        exact = torch.promote_types(mask_embedding.dtype, torch.float32)
        means = self.cross.mean(mask_embedding.to(exact).unflatten(0, (views, -1)).mean(dim=1))
        with torch.no_grad():
            for mean in means.unbind():
                self.prototypes.lerp_(mean.to(self.prototypes.dtype), 1 - self.prototype_momentum)
        return means if views > 1 else means[0]

    def _regions(self, features: Tensor, prototypes: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        assert self.pixel_projector is not None
        assert self.local_projector is not None
        pixels = self.pixel_projector.over_pixels(features)
        temperature = self.temperature if self.training else self.final_temperature
        if prototypes.dim() == 2:
            similarity, regions = region_attention(features, pixels, prototypes, temperature)
        else:
            maps = zip(features.chunk(len(prototypes)), pixels.chunk(len(prototypes)), prototypes, strict=True)
            found = [region_attention(*view, temperature) for view in maps]
            similarity, regions = (torch.cat(parts) for parts in zip(*found, strict=True))
        if self.detach_pooling:
            regions = pooled(features, heatmaps(similarity.detach(), temperature))
        if self.detach_relation:
            similarity = cosines(pixels.detach(), prototypes)
        return pixels, similarity, self.local_projector.over_regions(regions)


def cosines(pixels: Tensor, prototypes: Tensor) -> Tensor:
    """Cosines (V B, Q, H, W) fp32 of pixels (V B, D, H, W) with the prototypes (V, Q, D) of their view,
    or with (Q, D)."""
    with torch.autocast(pixels.device.type, enabled=False):
        directions = functional.normalize(_exact(prototypes), dim=-1).view(-1, 1, *prototypes.shape[-2:])
        unit = functional.normalize(_exact(pixels).flatten(2), dim=1).unflatten(0, (len(directions), -1))
        return (directions @ unit).flatten(0, 1).unflatten(2, pixels.shape[2:])


def _exact(x: Tensor) -> Tensor:
    """In fp32, or float64 for float64."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


class FRA(nn.Module):
    """The model that is trained: an online network, its target network, and the predictors.

    `target` starts as a copy of `online` and takes no gradient. `backbone` is any module that maps images to (B,
    out_channels, H, W); None builds `config.backbone`. Every batch norm is replaced by `norm.BatchNorm`, over all
    ranks. Raises ConfigError for a backbone that cannot be used.
    """

    views_grouped = False
    """Whether both views go through each network in one pass, with the statistics that a pass over each would give."""

    def __init__(self, config: ModelConfig, cross: CrossRank = SINGLE, backbone: nn.Module | None = None) -> None:
        super().__init__()
        own = build_backbone(config.backbone, config.map_stride) if backbone is None else backbone
        self.online = FRANetwork(config, own, cross)
        self.predictor = MLPHead(config.width, config.hidden, config.width)
        self.local_predictor = MLPHead(config.width, config.hidden, config.width) if config.decoder else None
        synchronise_norms(self, cross)
        self.target = copy.deepcopy(self.online).requires_grad_(False)
        self.revival = Revival(config.revive_dead, config.regions, cross) if config.revive_dead else None

    def forward(self, view1: Tensor, view2: Tensor, *local_views: Tensor) -> FRAOutput:
        """Both networks on two views (B, 3, S, S) of the same images. Statistics of batch norm are those of one view.

        local_views: small crops of the images, (B, 3, s, s) each, for the online network alone, which sees them all
        together.
        """
        views = (torch.cat([view1, view2]),) if self.views_grouped else (view1, view2)
        online = self._look(self.online, views)
        with torch.no_grad():
            target = self._look(self.target, views)
        crops = self._look_at_parts(local_views, online) if local_views else ()
        seen = (*online, *crops)
        prediction = self._predict(self.predictor, [view.global_embedding for view in seen])
        local = None
        if self.local_predictor is not None:
            local = self._predict(self.local_predictor, [view.local_embedding for view in seen])
        if self.revival is not None and self.training:
            self.revival.note([s for view in online if (s := view.similarity) is not None])
        return FRAOutput(online, target, prediction, local, crops)

    def _look(
        self, network: FRANetwork, views: tuple[Tensor, Tensor] | tuple[Tensor]
    ) -> tuple[NetworkOutput, NetworkOutput]:
        if len(views) == 2:
            return network(views[0]), network(views[1])
        one, two = network(views[0], views=2).chunk(2)
        return one, two

    def _predict(self, head: MLPHead, embeddings: Sequence[Tensor | None]) -> tuple[Tensor, ...]:
        """(B, D) or (B, Q, D) of each view -> the same."""
        given = [e for e in embeddings if e is not None]
        if not self.views_grouped:
            return tuple(head.over_regions(e) if e.dim() == 3 else head(e) for e in given)
        together = torch.cat(given)
        with in_groups(head, len(given)):
            out = head.over_regions(together) if together.dim() == 3 else head(together)
        return out.chunk(len(given))

    def _look_at_parts(
        self, views: tuple[Tensor, ...], online: tuple[NetworkOutput, NetworkOutput]
    ) -> tuple[NetworkOutput, ...]:
        one, two = (view.prototypes for view in online)
        prototypes = None if one is None or two is None else (one + two) / 2
        with statistics_kept(self.online):  # those that inference uses are of whole views
            return self.online.look_at_part(torch.cat(views), prototypes).chunk(len(views))

    def group_views(self) -> None:
        """Let both views go through each network in one pass, see `views_grouped`.

        Raises ConfigError for a backbone with a batch norm of its own, which cannot do that.
        """
        if not can_be_grouped(self):
            raise ConfigError("the backbone has a batch norm of its own, whose views cannot be grouped")
        self.views_grouped = True

    def set_heatmap_temperature(self, temperature: float) -> None:
        """Set the heatmaps' temperature for training from here on; inference always has that of the last step."""
        self.online.temperature = self.target.temperature = temperature

    def set_dropout_keys(self, keys: Tensor | None) -> None:
        """Set dropout's keys (B,) for the next forward pass, one per image, see `dropout.image_keys`."""
        for network, part in ((self.online, 0), (self.target, 1)):
            if network.decoder is not None:
                network.decoder.dropout.start(None if keys is None else keys ^ part)

    def move_prototypes(self) -> None:
        """Let the prototypes of both networks follow their pixels, with `prototypes: clusters`.

        Call it after the optimiser's step.
        """
        for network in (self.online, self.target):
            if network.clusters is not None:
                network.clusters.move(network.prototypes)

    def revive_regions(self, seed: int) -> None:
        """Start dead regions again, with `revive_dead`.

        Call it after the optimiser's step, with the same seed on every rank.
        """
        if self.revival is not None:
            assert self.online.decoder is not None
            assert self.target.decoder is not None
            self.revival.update(self.online.decoder, self.target.decoder, seed)

    def check_image_size(self, size: int) -> tuple[int, int]:
        """Size (H, W) of the map for square images of `size` pixels. Raises ConfigError if it is below 2×2."""
        return map_size(self.online.backbone, size, size)
