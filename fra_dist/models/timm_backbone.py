"""Backbones of timm, with random weights: ConvNeXt, vision transformers, and many more. timm is imported only here."""

import difflib
import re
from typing import Any

from torch import Tensor, nn

from fra_dist.errors import ConfigError

_BLOCK = re.compile(r"Block|Bottleneck|Residual")


class TimmBackbone(nn.Module):
    """The last feature map of a timm model, (B, C, H, W); a transformer's patches are its pixels.

    Vision transformers take any size that their patches divide; their map gets a layer norm over channels, because timm
    does not count their own last norm among the features. Raises ConfigError for a name that timm does not have or that
    gives no map.
    """

    def __init__(self, name: str) -> None:
        super().__init__()
        timm = _import_timm()
        if name not in timm.list_models():
            near = difflib.get_close_matches(name, timm.list_models(), 1, 0.6)
            hint = f" (did you mean timm:{near[0]}?)" if near else ""
            raise ConfigError(f"model.backbone=timm:{name}: timm {timm.__version__} has no such model{hint}")
        self.net = _create(timm, name)
        self.out_channels: int = self.net.feature_info.channels()[-1]
        of_tokens = hasattr(getattr(self.net, "model", None), "forward_intermediates")
        self.norm = nn.LayerNorm(self.out_channels) if of_tokens else None

    def forward(self, images: Tensor) -> Tensor:
        """The last feature map of images: (B, 3, S, S) -> (B, C, H, W)."""
        features = self.net(images)[-1]
        if features.shape[1] != self.out_channels:  # some keep channels last
            features = features.permute(0, 3, 1, 2)
        if self.norm is not None:
            features = self.norm(features.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        return features

    def blocks(self) -> list[nn.Module]:
        """The model's blocks or stages, which activation checkpointing computes again."""
        found: list[nn.Module] = []
        inside: set[nn.Module] = set()
        for module in self.net.modules():
            if module not in inside and _BLOCK.search(type(module).__name__):
                found.append(module)
                inside |= set(module.modules())
        return found


def _create(timm: Any, name: str) -> Any:
    options = {"pretrained": False, "features_only": True, "out_indices": (-1,)}
    for extra in ({"dynamic_img_size": True}, {}):
        try:
            return timm.create_model(name, **options, **extra)
        except TypeError:  # only transformers have that option
            continue
        except (RuntimeError, ValueError, AttributeError, AssertionError) as error:
            raise ConfigError(
                f"model.backbone=timm:{name} gives no feature map: {str(error).splitlines()[0]}"
            ) from None
    raise ConfigError(f"model.backbone=timm:{name} gives no feature map")


def _import_timm() -> Any:
    try:
        import timm
    except ImportError:
        raise ConfigError(
            "model.backbone=timm:... needs the package timm: pip install 'fra-dist[timm]', or use a torchvision ResNet"
        ) from None
    return timm
