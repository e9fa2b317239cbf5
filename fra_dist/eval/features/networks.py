"""The network that a user means by `--checkpoint`.

| given | read as |
|---|---|
| a run or checkpoint folder | one of this project's, with its projection and regions |
| a .safetensors that `fra-dist export` wrote | its backbone, its image size and normalisation |
| a ResNet in a file of any tool (`layouts/`) | the architecture is recognised by the names and shapes |
| a folder or file of a whole network that `fra-dist export` wrote | its projection and regions as well |
| a name such as `small-synthetic` | the weights of that name in the package (`layouts/shipped_weights.py`) |
| a file with the published names of FRA, or ours | the whole network; sizes from the shapes |
| `random:resnet50`, `random:resnet50:7`, `random:RUN` | random weights (seed 0 or 7), also of the model of a run |
"""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from fra_dist.config import Config, parse_config
from fra_dist.errors import CheckpointError, ConfigError
from fra_dist.eval.features.encoder import Encoder
from fra_dist.files import exists, is_folder
from fra_dist.layouts.matching import COUNTER, match_backbone, refuse_differences
from fra_dist.layouts.resnets import map_stride
from fra_dist.layouts.weights import WEIGHTS, Weights, is_exported_folder, no_backbone, open_weights
from fra_dist.models.backbone import RESNETS, SMALL, build_backbone
from fra_dist.models.fra import FRA
from fra_dist.models.fra_network import FRANetwork

NORMALISATIONS = ("auto", "fra", "imagenet")
_SIDES = (16, 2048)
"""Smallest and largest side of an image, as of `data.image_size`."""
IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


def open_encoder(given: str, size: int | None = None, normalise: str = "auto", target: bool = False) -> Encoder:
    """The network behind a run, checkpoint or file of weights, ready for evaluation.

    `size` and `normalise` (auto, fra, imagenet) override what the weights say. Raises CheckpointError for anything that
    cannot be read as a network, ConfigError for a size or a normalisation that is none. What names and shapes of a
    foreign file do not tell is said on standard error.
    """
    if size is not None and not (isinstance(size, int) and _SIDES[0] <= size <= _SIDES[1]):
        raise ConfigError(f"image_size={size}: it is a whole number of pixels from {_SIDES[0]} to {_SIDES[1]}")
    if normalise not in NORMALISATIONS:
        raise ConfigError(f"normalise={normalise!r} is not one of {', '.join(NORMALISATIONS)}")
    if given.startswith("random:"):
        encoder = _random(given)
    elif is_folder(Path(given)) and not is_exported_folder(Path(given)):
        encoder = _run(given, target)
    elif exists(Path(given)):
        encoder = _file(given, target)
    else:
        encoder = _shipped(given, target)
    if "unknown" in encoder.about:
        print(f"warning: {encoder.about['unknown']}", file=sys.stderr)
    return _changed(encoder, size, normalise)


def _untrained(config: Config) -> FRANetwork:
    return FRA(config.model).online


def on_device(encoder: Encoder) -> Encoder:
    """The encoder moved to the GPU, if there is one."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    (encoder.backbone if encoder.network is None else encoder.network).to(device)
    return encoder


def _changed(encoder: Encoder, size: int | None, normalise: str) -> Encoder:
    defaults = Config().data
    mean, std = encoder.mean, encoder.std
    if normalise != "auto":
        mean, std = IMAGENET if normalise == "imagenet" else (defaults.mean, defaults.std)
    return replace(encoder, size=size or encoder.size, mean=mean, std=std)


def _run(given: str, target: bool) -> Encoder:
    from fra_dist.train.checkpoints.restoring import load_model

    model, config, info = load_model(given)
    about = {"checkpoint": info["path"], "step": info["step"], "architecture": config.model.backbone}
    return _ours(config.name, model, config, about, target)


def _ours(name: str, model: FRA, config: Config, about: dict[str, Any], target: bool) -> Encoder:
    network = (model.target if target else model.online).eval()
    data = config.data
    about = {
        **about,
        "architecture": config.model.backbone,
        "map_stride": config.model.map_stride,
        "network": "target" if target else "online",
    }
    return Encoder(
        name,
        network.backbone,
        data.image_size,
        data.mean,
        data.std,
        network,
        about,
        fresh=partial(_untrained, config),
    )


def _random(given: str) -> Encoder:
    what, _, seed = given.removeprefix("random:").rpartition(":")
    if not seed.isdecimal() or not what:
        what, seed = given.removeprefix("random:"), "0"
    if int(seed) >= 2**63:
        raise CheckpointError(f"--checkpoint {given}: a seed is less than 2^63")
    torch.manual_seed(int(seed))
    about = {"checkpoint": given, "seed": int(seed)}
    if is_folder(Path(what)):
        from fra_dist.train.checkpoints.reading import find_checkpoint

        config = find_checkpoint(what).config
        return _ours(f"random {config.model.backbone}", FRA(config.model), config, about, target=False)
    try:
        backbone = build_backbone(what).eval()
    except ConfigError:
        known = ", ".join((*SMALL, *RESNETS))
        raise CheckpointError(f"--checkpoint {given}: random networks are {known}, or those of a run folder") from None
    data = Config().data
    size = 64 if what in SMALL else data.image_size
    return Encoder(f"random {what}", backbone, size, data.mean, data.std, None, {**about, "architecture": what})


def _shipped(given: str, target: bool) -> Encoder:
    from fra_dist.layouts.shipped_weights import find_weights, no_weights

    path = find_weights(given)
    if path is None:
        raise no_weights(given)
    return replace(_file(str(path), target), name=given)


def _file(given: str, target: bool) -> Encoder:
    weights = open_weights(given)
    if weights.kind == "fra":
        return _published(weights, target)
    if weights.kind == "network":
        return _network(weights, target)
    return _backbone(weights)


def _backbone(weights: Weights) -> Encoder:
    from fra_dist.export.function_facts import compare_function

    path, facts = weights.path, weights.facts
    architecture = weights.architecture
    if architecture is None:
        raise no_backbone(weights)
    stride = int(facts.get("map_stride", map_stride(weights.state)))
    backbone = build_backbone(architecture, stride)
    found = match_backbone(weights, backbone, architecture)
    _refuse_rest(weights, found.missing, architecture)
    backbone.load_state_dict({**backbone.state_dict(), **found.taken})
    unknown = compare_function(path, backbone, architecture, facts)
    mean, std = (tuple(map(float, facts[key].split())) if key in facts else None for key in ("mean", "std"))
    size = int(facts.get("image_size", 224))
    about = {
        "checkpoint": str(path),
        "architecture": architecture,
        "map_stride": stride,
        "layout": weights.layout,
        **({"step": facts["step"]} if "step" in facts else {}),
        **({"unknown": _sizes_too(unknown, facts)} if unknown else {}),
    }
    return Encoder(_name(path), backbone.eval(), size, mean or IMAGENET[0], std or IMAGENET[1], None, about)


def _sizes_too(unknown: str, facts: Mapping[str, str]) -> str:
    """The line on what cannot be known of a foreign file, with what is assumed of its images."""
    if "image_size" in facts:
        return unknown
    return (
        f"{unknown}; photos of 224 pixels in ImageNet's colours are assumed: --image-size and --normalise change that"
    )


def _refuse_rest(weights: Weights, missing: Sequence[str], what: str) -> None:
    if missing:
        raise CheckpointError(f"{weights.path} is no whole {what}: {missing[0]} is missing ({len(missing)} tensors)")


def _network(weights: Weights, target: bool) -> Encoder:
    """A network that was exported: it is the online or the target one, and says which."""
    facts = weights.facts
    if target and facts.get("network") != "target":
        raise CheckpointError(f"{weights.path} holds the {facts.get('network')} network alone, not the target")
    try:
        config = parse_config(weights.settings, where=str(weights.path))
        network = FRA(config.model).online
    except ConfigError as error:
        raise CheckpointError(f"{weights.path} cannot be built again: {error}") from None
    _load(weights, network, weights.state, f"FRA with {config.model.backbone}")
    about: dict[str, Any] = {
        "checkpoint": str(weights.path),
        "step": facts.get("step"),
        "architecture": config.model.backbone,
    }
    about |= {"map_stride": config.model.map_stride, "network": facts.get("network"), "layout": weights.layout}
    data = config.data
    return Encoder(
        config.name, network.eval().backbone, data.image_size, data.mean, data.std, network, about,
        fresh=partial(_untrained, config),
    )  # fmt: skip


def _name(path: Path) -> str:
    return path.parent.name if path.name == WEIGHTS else path.name.removesuffix(".tar").rpartition(".")[0] or path.name


def _load(weights: Weights, module: torch.nn.Module, state: Mapping[str, Tensor], what: str) -> None:
    own = module.state_dict()
    taken = {key: value for key, value in state.items() if key in own}
    missing = [key for key in own if key not in taken and not key.endswith(COUNTER)]
    extra = sorted(state.keys() - own.keys())
    if extra:
        raise CheckpointError(f"{weights.path} is not a {what}: {extra[0]} is unknown ({len(extra)} such tensors)")
    refuse_differences(weights, own, taken, missing, what)
    module.load_state_dict({**own, **taken})


def _published(weights: Weights, target: bool) -> Encoder:
    """Sizes from the shapes; what leaves no trace there (attention heads, temperature, image size, colours) from the
    export's metadata, or, with a line that says so, as published."""
    path, state, architecture = weights.path, weights.state, weights.architecture
    if architecture is None:
        raise no_backbone(weights)
    backbone = [key.removeprefix("online.backbone.") for key in state]
    try:
        hidden, width = state["online.projector.linear2.weight"].shape[::-1]
    except (KeyError, ValueError):
        raise CheckpointError(f"{path} has no projector online.projector.linear2.weight") from None
    sizes = {"width": width, "hidden": hidden, "map_stride": map_stride(backbone)}
    model: dict[str, Any] = {"backbone": architecture, **sizes, "decoder": None}
    if "online.prototypes" in state and "online.decoder.queries" not in state:
        model |= {"regions": len(state["online.prototypes"]), "prototypes": "clusters", "decoder": {"heads": 1}}
    elif "online.decoder.queries" in state:
        model["regions"] = len(state["online.decoder.queries"])
        layers = {key.split(".")[3] for key in state if key.startswith("online.decoder.layers.")}
        feedforward = len(state["online.decoder.layers.0.linear1.weight"])
        model["decoder"] = {
            "layers": len(layers), "feedforward": feedforward, "query_offset": "online.decoder.query_offset" in state
        }  # fmt: skip
    off: dict[str, Any] = {} if model["decoder"] else {"loss": {"local": 0, "relation": 0}}
    if not model["decoder"] and "online.pixel_projector.linear2.weight" in state:
        model["pixel_head"], off["loss"]["correspondence"] = True, 1
    about: dict[str, Any] = {"checkpoint": str(path), "architecture": architecture, "layout": weights.layout}
    try:
        config = parse_config(_with_settings({"model": model, **off}, weights.settings), where=str(path))
        fra = FRA(config.model)
    except ConfigError as error:
        raise CheckpointError(f"{path} cannot be built again: {error}") from None
    if "step" in weights.facts:
        about["step"] = weights.facts["step"]
    if not weights.settings:
        about["unknown"] = (
            f"{path} does not say its image size, colours, attention heads and temperature: taken as published "
            f"({config.data.image_size} px, 8 heads, temperature {config.model.heatmap_temperature:g}); "
            "`fra-dist export --format network` of the run would say them"
        )
    _load(weights, fra, state, f"FRA with {architecture}")
    return _ours(_name(path), fra, config, about, target)


def _with_settings(shapes: dict[str, Any], told: Mapping[str, Any]) -> dict[str, Any]:
    """The sections that shapes tell, with what an export says beside them. Raises ConfigError for damaged ones."""
    sections = {name: told.get(name) or {} for name in ("model", "data")}
    if not all(isinstance(section, dict) for section in sections.values()):
        raise ConfigError("its sections are no mappings")
    model, said = dict(shapes["model"]), sections["model"]
    kept = ("heatmap_temperature", "heatmap_temperature_end")
    model |= {name: said[name] for name in kept if name in said}
    if model["decoder"] and isinstance(said.get("decoder"), dict) and "heads" in said["decoder"]:
        model["decoder"] = {**model["decoder"], "heads": said["decoder"]["heads"]}
    named = {"name": told["name"]} if "name" in told else {}
    return {**named, **shapes, "model": model, "data": sections["data"]}
