"""One file of weights, whoever wrote it, as tensors under the names of this package.

| kind | what the file holds | names |
|---|---|---|
| `fra` | both networks and the predictors, under our names or the published ones | those of `models.fra.FRA` |
| `network` | a whole inference network that `fra-dist export` wrote | those of `models.fra.FRANetwork` |
| `backbone` | a backbone of this package, or the ResNet of another tool | those of `models.backbone` |
| `unknown` | something else, such as a model of timm | as in the file |
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from torch import Tensor

from fra_dist.errors import CheckpointError
from fra_dist.files import is_file, is_folder, raw_text
from fra_dist.layouts import resnets
from fra_dist.layouts.published_names import from_published
from fra_dist.layouts.reading import TensorFile, read_file, some
from fra_dist.layouts.tools import tool_of
from fra_dist.models.backbone import RESNETS, SMALL

Kind = Literal["fra", "network", "backbone", "unknown"]
NETWORK_MARK = "fra_dist.network"
"""Value of `format` in the metadata of an exported inference network."""
SETTINGS, WEIGHTS = "config.json", "model.safetensors"
"""Files of an exported folder."""
_PREFIXES = ("", "module.", "backbone.", "encoder.", "online.backbone.")


@dataclass(frozen=True)
class Weights:
    """The tensors of a file of weights, and what is known of them."""

    path: Path
    """The file."""
    kind: Kind
    """What it holds; see the head of this module."""
    layout: str
    """Whose layout it has, for people: MoCo, torchvision, FRA (published names), ..."""
    state: dict[str, Tensor]
    """Tensors on the CPU by name."""
    left_out: tuple[str, ...] = ()
    """Names of the file's tensors that are not in `state`, such as heads and momentum networks."""
    facts: Mapping[str, str] = field(default_factory=dict)
    """Metadata: of an export its architecture, map_stride, image_size, mean and std."""

    @cached_property
    def architecture(self) -> str | None:
        """Name of the backbone, as `model.backbone` takes it; None when the file does not show it."""
        if "architecture" in self.facts:
            return self.facts["architecture"]
        inside = {"fra": "online.backbone.", "network": "backbone.", "backbone": "", "unknown": ""}[self.kind]
        return resnets.architecture({k.removeprefix(inside): v for k, v in self.state.items() if k.startswith(inside)})

    @property
    def settings(self) -> dict[str, Any]:
        """The sections `model` and `data` of the configuration of an exported model; empty for other files.

        Raises CheckpointError when they are damaged.
        """
        try:
            found = json.loads(self.facts.get("config", "{}"))
        except ValueError:
            found = None
        if not isinstance(found, dict):
            raise CheckpointError(f"{self.path} is damaged: its configuration is no JSON object; export it again")
        return found


def open_weights(given: str | Path) -> Weights:
    """Read a file of weights, or the folder that `fra-dist export` wrote for Hugging Face or timm.

    Raises CheckpointError, one line, when it cannot be read or is of a network that has no place here.
    """
    path = Path(given)
    more: dict[str, str] = {}
    if is_folder(path):
        more, path = folder_facts(path), path / WEIGHTS
    found = read_file(path)
    facts = {**more, **(found.facts or {})}
    beside = found.beside or {}
    if isinstance(beside.get("arch"), str) and not resnets.find(found.tensors):
        facts.setdefault("architecture", _backbone_name(str(beside["arch"])))
    return _recognised(path, found, facts)


def is_exported_folder(path: Path) -> bool:
    """Whether a folder is one that an export made, rather than a run."""
    return is_file(path / SETTINGS) and is_file(path / WEIGHTS)


def folder_facts(folder: Path) -> dict[str, str]:
    """What config.json says of the weights beside it, as the metadata of a file would. Raises CheckpointError."""
    path = folder / SETTINGS
    try:
        said = json.loads(raw_text(path))
        facts = dict(said.get("fra_dist", {}))
    except (OSError, ValueError, AttributeError, TypeError) as error:
        raise CheckpointError(f"{path} cannot be read as the settings of a model: {error}") from None
    if not all(isinstance(value, str) for value in facts.values()):
        raise CheckpointError(f"{path} is damaged: what it says under fra_dist is not text")
    if not facts and isinstance(said.get("architecture"), str):
        facts = {"architecture": _backbone_name(said["architecture"])}
    return facts


def _recognised(path: Path, found: TensorFile, facts: Mapping[str, str]) -> Weights:
    state = found.tensors
    bare = {key.removeprefix("module."): value for key, value in state.items()}
    if facts.get("format") == NETWORK_MARK:
        return Weights(path, "network", "an exported network", state, facts=facts)
    if any(key.startswith("online_net.") for key in bare):
        return Weights(path, "fra", "FRA, published names", from_published(state), facts=facts)
    if any(key.startswith("online.") for key in bare) and any(key.startswith("target.") for key in bare):
        return Weights(path, "fra", "FRA of this package", bare, facts=facts)
    if resnets.is_insightface(state):
        raise CheckpointError(
            f"{path} holds an IResNet of InsightFace, whose blocks (norm before convolution, PReLU) are not those of a "
            "ResNet: no backbone here can take its weights; evaluate it as a backbone of your own, or use a ResNet"
        )
    own = _own_small(state)
    if own is not None:
        return Weights(path, "backbone", "a backbone of this package", own, _others(state, own), facts)
    resnet = resnets.find(state)
    if resnet is not None and not facts.get("architecture", "").startswith("timm:"):
        prefix, tensors = resnet
        kept = {id(value) for value in tensors.values()}
        rest = tuple(key for key, value in state.items() if id(value) not in kept)
        return Weights(path, "backbone", tool_of(state, prefix, found.inside), tensors, rest, facts)
    return Weights(path, "unknown", "timm" if facts.get("architecture") else "another tool", state, facts=facts)


def _own_small(state: Mapping[str, Tensor]) -> dict[str, Tensor] | None:
    """The tensors of `tiny`, `fpn_tiny` or `fpn_small` under their own names, behind any of the usual prefixes."""
    for prefix in _PREFIXES:
        some_of = {key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)}
        if "stem.0.weight" in some_of and resnets.architecture(some_of) in SMALL:
            return some_of
    return None


def _others(state: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> tuple[str, ...]:
    return tuple(key for key in state if not any(key.endswith(name) for name in own))


def _backbone_name(architecture: str) -> str:
    """The name that `model.backbone` takes for an architecture of torchvision or timm."""
    return architecture if architecture in RESNETS or ":" in architecture else f"timm:{architecture}"


def no_backbone(weights: Weights) -> CheckpointError:
    """The error to raise for weights of a network that is not known here."""
    known = ", ".join((*SMALL, *RESNETS))
    return CheckpointError(
        f"{weights.path} is of no backbone that is known here ({known}, or timm:NAME): it begins with "
        f"{some(dict.fromkeys(sorted(weights.state)))}"
    )
