"""FRA (Gao and Patras, CVPR 2024, arXiv 2403.02138): an online network, its EMA copy, and the predictors.

Legend of every shape in this package: B images of this rank, C backbone channels, H×W map, Q regions, D width of the
embeddings, K hidden width of the heads.
"""

import copy
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor, nn

from fra_dist.config import ModelConfig
from fra_dist.distributed import SINGLE, CrossRank
from fra_dist.errors import ConfigError
from fra_dist.models.backbone import RESNETS, SMALL, build_backbone, map_size
from fra_dist.models.fra_network import FRANetwork
from fra_dist.models.heads import MLPHead
from fra_dist.models.norm import can_be_grouped, in_groups, synchronise_norms
from fra_dist.models.outputs import FRAOutput, NetworkOutput
from fra_dist.models.passes.recompute import statistics_kept
from fra_dist.models.passes.rounded_weights import Place, rounded_weights, weights_of
from fra_dist.models.revival import Revival

Views = tuple[Tensor, Tensor] | tuple[Tensor]
"""Both views, or both end to end."""


class FRA(nn.Module):
    """The model that is trained: an online network, its target network, and the predictors.

    `target` starts as a copy of `online` and takes no gradient. `backbone` is any module that maps images to (B,
    out_channels, H, W); None builds `config.backbone`. Every batch norm is replaced by `norm.BatchNorm`, over all
    ranks. Raises ConfigError for a backbone that cannot be used.
    """

    views_grouped = False
    """Whether both views go through each network in one pass, with the statistics that a pass over each would give."""
    rounded: Sequence[Place] = ()
    """Parameters that are trained and rounded together under autocast, see `round_weights`."""
    rounded_target: Sequence[Place] = ()
    """Those of the target network, whose copies last no longer than its pass."""

    def __init__(self, config: ModelConfig, cross: CrossRank = SINGLE, backbone: nn.Module | None = None) -> None:
        super().__init__()
        self.backbone_known = backbone is None and config.backbone in (*RESNETS, *SMALL)
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
        # first, while nothing is kept for the backward pass: its maps need memory of their own
        with torch.no_grad(), self._rounded_weights(self.rounded_target, view1.device):
            target = self._look(self.target, views)
        with self._rounded_weights(self.rounded, view1.device):
            return self._follow(target, views, local_views)

    def _follow(
        self, target: tuple[NetworkOutput, NetworkOutput], views: Views, local_views: tuple[Tensor, ...]
    ) -> FRAOutput:
        online = self._look(self.online, views)
        crops = self._look_at_parts(local_views, online) if local_views else ()
        seen = (*online, *crops)
        prediction = self._predict(self.predictor, [view.global_embedding for view in seen])
        local = None
        if self.local_predictor is not None:
            local = self._predict(self.local_predictor, [view.local_embedding for view in seen])
        if self.revival is not None and self.training:
            self.revival.note([s for view in online if (s := view.similarity) is not None])
        return FRAOutput(online, target, prediction, local, crops)

    def _look(self, network: FRANetwork, views: Views) -> tuple[NetworkOutput, NetworkOutput]:
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

    def round_weights(self) -> None:
        """Let the weights be rounded all together under autocast, with the numbers that autocast itself would give.

        Call it after `group_views`, if at all that is called. Those of a backbone from elsewhere are left to autocast.
        """
        predictors = [part for part in (self.predictor, self.local_predictor) if part is not None]
        self.rounded = [*self._weights_of(self.online), *(place for part in predictors for place in weights_of(part))]
        self.rounded_target = self._weights_of(self.target)

    def _weights_of(self, network: FRANetwork) -> list[Place]:
        parts: list[nn.Module | None] = [network.projector, network.pixel_projector, network.local_projector]
        parts.append(network.decoder)
        if self.backbone_known:
            parts.append(network.backbone)
        return [p for part in parts if part is not None for p in weights_of(part, once=self.views_grouped)]

    def _rounded_weights(self, places: Sequence[Place], device: torch.device) -> AbstractContextManager[None]:
        if not (places and torch.is_autocast_enabled(device.type)):
            return nullcontext()
        return rounded_weights(places, torch.get_autocast_dtype(device.type))

    def set_heatmap_temperature(self, temperature: float | Tensor) -> None:
        """Set the heatmaps' temperature for training from here on; inference always has that of the last step.

        A 0-dim tensor on the device may change its value afterwards, also between replays of a CUDA graph.
        """
        self.online.temperature = self.target.temperature = temperature

    def set_dropout_keys(self, keys: Tensor | None) -> None:
        """Set dropout's keys (B,) for the next forward pass, one per image, see `dropout.image_keys`."""
        for network, part in ((self.online, 0), (self.target, 1)):
            if network.decoder is not None:
                network.decoder.dropout.start(keys if keys is None or part == 0 else keys ^ part)

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
