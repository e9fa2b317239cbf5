"""One network of FRA: backbone, projectors and region decoder or clusters. The online and the target network are such.

The legend of shapes is that of `models/fra.py`.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from fra_dist.config import ModelConfig
from fra_dist.distributed import CrossRank
from fra_dist.kernels.region_attention import heatmaps, pooled, region_attention
from fra_dist.models.backbone import channels_of, check_map
from fra_dist.models.clusters import Clusters
from fra_dist.models.decoder import RegionDecoder
from fra_dist.models.heads import MLPHead
from fra_dist.models.norm import in_groups
from fra_dist.models.outputs import Inference, NetworkOutput


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
        self.temperature: float | Tensor = config.heatmap_temperature
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
