"""Which function the weights of a file are for: said when they are exported, compared when they are read.

builder      what makes the network: `torchvision.models.resnet50`, `timm.create_model:convnext_tiny`, ...
features     `models.feature_digest` of the backbone
"""

from collections.abc import Mapping
from pathlib import Path

from torch import nn

from fra_dist.errors import CheckpointError
from fra_dist.models.backbone import RESNETS
from fra_dist.models.feature_digest import distance, feature_digest, same_features

BUILDER, FEATURES = "builder", "features"


def function_facts(backbone: nn.Module, architecture: str) -> dict[str, str]:
    """The builder's name and the digest of a backbone, as text for the metadata of a file."""
    digest = " ".join(f"{value:.8g}" for value in feature_digest(backbone))
    return {BUILDER: builder_of(architecture), FEATURES: digest}


def builder_of(architecture: str) -> str:
    """The function that makes a network, from its name in `model.backbone`."""
    if architecture in RESNETS:
        return f"torchvision.models.{architecture}"
    kind, colon, name = architecture.partition(":")
    return f"timm.create_model:{name}" if colon and kind == "timm" else f"fra_dist.models.backbone:{architecture}"


def compare_function(path: Path, backbone: nn.Module, architecture: str, facts: Mapping[str, str]) -> str:
    """Compare a backbone with what its file says of its function: empty when that is the same, or else one line that
    says what cannot be known, for a file that says nothing.

    Raises CheckpointError when the features differ from those that were exported.
    """
    if FEATURES not in facts:
        return unknown_function(path, architecture) if architecture in RESNETS else ""
    try:
        wanted = [float(word) for word in facts[FEATURES].split()]
    except ValueError:
        raise CheckpointError(f"{path}: its metadata `{FEATURES}` is damaged") from None
    found = feature_digest(backbone)
    if same_features(found, wanted):
        return ""
    apart = f"{distance(found, wanted):.0%} apart" if len(found) == len(wanted) else "of another length"
    raise CheckpointError(
        f"{path}: its weights fit a {architecture}, but features of the fixed image are {apart} from those that it was "
        f"exported with by {facts.get(BUILDER, 'another builder')}: another version of it computes something else"
    )


def unknown_function(path: Path, architecture: str) -> str:
    """One line on what names and shapes of a file cannot tell."""
    return (
        f"{path} fits a plain {architecture} by names and shapes, which do not tell strides, dilation, pooling or "
        "activation: weights of a variant (timm's resnetaa50 or resnetblur50, a dilated one) would fit as well and "
        "give wrong features; make sure that it was trained as torchvision builds it"
    )
