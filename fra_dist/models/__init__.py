"""The networks: FRA, its online and target halves, backbones, and the dataclasses they return.

Imported when first used.
"""

from typing import TYPE_CHECKING

from fra_dist._lazy import lazily

if TYPE_CHECKING:
    from fra_dist.models.backbone import build_backbone as build_backbone
    from fra_dist.models.fra import FRA as FRA
    from fra_dist.models.fra_network import FRANetwork as FRANetwork
    from fra_dist.models.outputs import FRAOutput as FRAOutput
    from fra_dist.models.outputs import Inference as Inference
    from fra_dist.models.outputs import NetworkOutput as NetworkOutput

_HOMES = {
    "FRA": "fra_dist.models.fra",
    "FRANetwork": "fra_dist.models.fra_network",
    "FRAOutput": "fra_dist.models.outputs",
    "Inference": "fra_dist.models.outputs",
    "NetworkOutput": "fra_dist.models.outputs",
    "build_backbone": "fra_dist.models.backbone",
}
__all__ = [*_HOMES]
__getattr__, __dir__ = lazily(__name__, _HOMES)
