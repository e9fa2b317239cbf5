"""FRA (Gao and Patras, CVPR 2024, arXiv 2403.02138): an online network, its EMA copy, and the predictors.

Legend of every shape in this package: B images of this rank, C backbone channels, H×W map, Q regions, D width of the
embeddings, K hidden width of the heads.
"""

import copy
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from fra_dist.config import ModelConfig
from fra_dist.distributed import SINGLE, CrossRank
from fra_dist.errors import ConfigError
from fra_dist.kernels.region_attention import heatmaps, region_attention
from fra_dist.models.backbone import build_backbone, channels_of, check_map, map_size
from fra_dist.models.decoder import RegionDecoder
from fra_dist.models.heads import Head
from fra_dist.models.norm import can_be_grouped, in_groups, synchronise_norms
from fra_dist.models.outputs import FRAOutput, Inference, NetworkOutput
from fra_dist.models.recompute import statistics_kept
from fra_dist.models.revival import Revival


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

    def forward(self, images: Tensor, views: int = 1) -> NetworkOutput:
        """(B, 3, S, S) images -> everything the losses need. In training mode the prototypes follow the batch.

        With `views` V above 1, (V B, 3, S, S): what a pass over each view would give, end to end, the state included.
        """
        with in_groups(self, views):
            features = self._features(images)
            embedding = self.projector(features.mean(dim=(2, 3)))
            if self.decoder is None:
                return NetworkOutput(features, embedding)
            mask_embedding = self.decoder(features)
            prototypes = self._batch_prototypes(mask_embedding, views) if self.training else self.prototypes
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
        return pixels, similarity, self.local_projector.over_regions(regions)


class FRA(nn.Module):
    """The model that is trained. `target` starts as a copy of `online` and takes no gradient.

    `backbone` is any module that maps images to (B, out_channels, H, W); null builds `config.backbone`. Every batch
    norm is replaced by `norm.BatchNorm`, over all ranks. Raises ConfigError for a backbone that cannot be used.
    """

    views_grouped = False
    """Both views go through each network in one pass, with the statistics that a pass over each would give."""

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

    def _predict(self, head: Head, embeddings: Sequence[Tensor | None]) -> tuple[Tensor, ...]:
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
        """See `views_grouped`. Raises ConfigError for a backbone with a batch norm of its own, which cannot do that."""
        if not can_be_grouped(self):
            raise ConfigError("the backbone has a batch norm of its own, whose views cannot be grouped")
        self.views_grouped = True

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
