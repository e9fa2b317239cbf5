"""ResNets in files: where in a state dict one lies, and which it is.

A ResNet is known by its names and shapes, whatever stands in front of them: PREFIXconv1.weight, PREFIXbn1.weight and
PREFIXlayer1.0.conv1.weight (torchvision, timm, MoCo, SwAV, DINO, solo-learn, VISSL, ...), or the numbers that
`nn.Sequential(*resnet.children())` gives them (Lightly): PREFIX0.weight, PREFIX1.weight, PREFIX4.0.conv1.weight.
"""

import re
from collections.abc import Iterable, Mapping

from torch import Tensor

from fra_dist.models.pyramid import PATH

BLOCKS = {(2, 2, 2, 2): "resnet18", (3, 4, 6, 3): "resnet34", (3, 4, 23, 3): "resnet101"}
_NUMBERS = {"0": "conv1", "1": "bn1", "4": "layer1", "5": "layer2", "6": "layer3", "7": "layer4"}
_FOLLOWERS = ("encoder_k", "momentum", "target", "student", "_ema", "ema_")
"""Words in the prefix of the network that is not the one to start from, where a file holds two."""
_OWN = re.compile(rf"(conv1|bn1|layer[1-4])\.|{re.escape(PATH)}")


def find(state: Mapping[str, Tensor]) -> tuple[str, dict[str, Tensor]] | None:
    """(prefix, the tensors of a ResNet behind it under torchvision's names without `fc`); None when there is none.

    Of two networks, as of a student and its moving average, the one that a tool's users take: MoCo's encoder_q, the
    backbone rather than the momentum backbone.
    """
    found = {prefix: names for prefix in _prefixes(state) if (names := _behind(state, prefix))}
    if not found:
        return None
    prefix = min(found, key=lambda one: (any(word in one for word in _FOLLOWERS), len(one)))
    return prefix, {own: state[name] for own, name in found[prefix].items()}


def architecture(state: Mapping[str, Tensor]) -> str | None:
    """The name of the backbone with these tensors, of those known here; None for another."""
    if "stem.0.weight" in state and "block2.conv2.weight" in state:
        if "block3.conv2.weight" not in state:
            return "tiny"
        return "fpn_tiny" if len(state["block3.conv2.weight"]) == 96 else "fpn_small"
    found = [re.match(r"layer([1-4])\.(\d+)\.", key) for key in state]
    blocks = tuple(len({m[2] for m in found if m and m[1] == str(k)}) for k in (1, 2, 3, 4))
    bottleneck = "layer1.0.conv3.weight" in state
    if blocks == (3, 4, 6, 3) and bottleneck:
        return "wide_resnet50_2" if len(state["layer1.0.conv1.weight"]) > 64 else "resnet50"
    if blocks in BLOCKS and bottleneck == (blocks == (3, 4, 23, 3)):
        return BLOCKS[blocks]
    return None


def map_stride(state: Iterable[str]) -> int:
    """Stride of a ResNet's map: the more laterals its top-down path has, the finer."""
    names = list(state)
    laterals = sum(key.startswith(f"{PATH}laterals.") and key.endswith(".conv.weight") for key in names)
    return 2 ** (6 - laterals) if laterals and "layer4.0.conv1.weight" in names else 32


def is_insightface(state: Mapping[str, Tensor]) -> bool:
    """Whether these are the tensors of InsightFace's IResNet: other blocks under the names of a ResNet, with PReLU."""
    return any(re.search(r"layer1\.0\.prelu\.weight$", key) for key in state)


def _prefixes(state: Mapping[str, Tensor]) -> list[str]:
    plain = [key.removesuffix("layer1.0.conv1.weight") for key in state if key.endswith("layer1.0.conv1.weight")]
    numbers = [key.removesuffix("4.0.conv1.weight") for key in state if key.endswith("4.0.conv1.weight")]
    return list(dict.fromkeys([*plain, *(one for one in numbers if not one.endswith("layer"))]))


def _behind(state: Mapping[str, Tensor], prefix: str) -> dict[str, str]:
    """Torchvision's name -> name in the state dict; empty when there is no ResNet behind the prefix."""
    numbered = f"{prefix}4.0.conv1.weight" in state and f"{prefix}0.weight" in state
    names = {}
    for key in state:
        if not key.startswith(prefix):
            continue
        own = key.removeprefix(prefix)
        if numbered:
            first, dot, rest = own.partition(".")
            own = f"{_NUMBERS[first]}.{rest}" if dot and first in _NUMBERS else ""
        if _OWN.match(own):
            names[own] = key
    return names if "conv1.weight" in names and "bn1.weight" in names else {}
