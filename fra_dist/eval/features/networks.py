"""The network that a user means by `--checkpoint`.

| given | read as |
|---|---|
| a run or checkpoint folder | one of this project's, with its projection and regions |
| a .safetensors that `fra-dist export` wrote | its backbone or network, its image size and normalisation |
| a name such as `small-synthetic` | the weights of that name in the package (`export/shipped_weights.py`) |
| .pth, .pt, .safetensors, .npz of a torchvision ResNet | the architecture is told from the names and shapes |
| a file with the published names of FRA, or ours | the whole network; sizes from the shapes |
| `random:resnet50`, `random:resnet50:7`, `random:RUN` | random weights (seed 0 or 7), also of the model of a run |
"""

import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from fra_dist.config import Config, parse_config
from fra_dist.errors import CheckpointError, ConfigError
from fra_dist.eval.features.encoder import Encoder
from fra_dist.models.backbone import RESNETS, SMALL, build_backbone
from fra_dist.models.fra import FRA, FRANetwork
from fra_dist.models.pyramid import PATH

IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
BLOCKS = {(2, 2, 2, 2): "resnet18", (3, 4, 6, 3): "resnet34", (3, 4, 23, 3): "resnet101"}
PREFIXES = ("module.", "backbone.", "encoder.", "online.backbone.")


def open_encoder(given: str, size: int | None = None, normalise: str = "auto", target: bool = False) -> Encoder:
    """The network behind a run, checkpoint or file of weights, ready for evaluation.

    `size` and `normalise` (auto, fra, imagenet) override what the weights say. Raises CheckpointError for anything that
    cannot be read as a network.
    """
    if given.startswith("random:"):
        encoder = _random(given)
    elif Path(given).is_dir():
        encoder = _run(given, target)
    else:
        encoder = _file(Path(given) if Path(given).exists() else _shipped(given), target)
    return _changed(encoder, size, normalise)


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
    from fra_dist.train.checkpoints.reading import load_model

    model, config, info = load_model(given)
    about = {"checkpoint": info["path"], "step": info["step"], "architecture": config.model.backbone}
    return _ours(config.name, model, config, about, target)


def _ours(name: str, model: FRA, config: Config, about: dict[str, Any], target: bool) -> Encoder:
    about = {**about, "network": "target" if target else "online"}
    return _of_network(name, model.target if target else model.online, config, about)


def _of_network(name: str, network: FRANetwork, config: Config, about: dict[str, Any]) -> Encoder:
    network, data = network.eval(), config.data
    about = {**about, "architecture": config.model.backbone, "map_stride": config.model.map_stride}
    return Encoder(
        name,
        network.backbone,
        data.image_size,
        data.mean,
        data.std,
        network,
        about,
        fresh=lambda: FRA(config.model).online,
    )


def _random(given: str) -> Encoder:
    what, _, seed = given.removeprefix("random:").rpartition(":")
    if not seed.isdecimal() or not what:
        what, seed = given.removeprefix("random:"), "0"
    if int(seed) >= 2**63:
        raise CheckpointError(f"--checkpoint {given}: a seed is less than 2^63")
    torch.manual_seed(int(seed))
    about = {"checkpoint": given, "seed": int(seed)}
    if Path(what).is_dir():
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


def _shipped(given: str) -> Path:
    from fra_dist.export.shipped_weights import find_weights, shipped_weights

    found = find_weights(given)
    if found is None:
        names = ", ".join(sorted(shipped_weights())) or "none"
        raise CheckpointError(f"no checkpoint at {given}: no such file or folder, nor weights in the package ({names})")
    return found


def _file(path: Path, target: bool) -> Encoder:
    from fra_dist.export.network_export import SETTINGS
    from fra_dist.export.published_names import from_published
    from fra_dist.export.weight_files import read_metadata, read_tensors

    facts = read_metadata(path)
    if SETTINGS in facts:
        return _whole(path, facts, target)
    state = read_tensors(path)
    bare = {key.removeprefix("module."): value for key, value in state.items()}
    if any(key.startswith("online_net.") for key in bare):
        return _published(path, from_published(state), target)
    if any(key.startswith("online.") for key in bare) and any(key.startswith("target.") for key in bare):
        return _published(path, bare, target)
    return _backbone(path, state, facts)


def _backbone(path: Path, state: Mapping[str, Tensor], facts: Mapping[str, str]) -> Encoder:
    for prefix in PREFIXES:
        if any(key.startswith(prefix) for key in state):
            state = {key.removeprefix(prefix): v for key, v in state.items() if key.startswith(prefix)}
    state = {key: value for key, value in state.items() if not key.startswith("fc.")}
    architecture = facts.get("architecture") or _architecture(path, state)
    stride = int(facts.get("map_stride", _stride(state)))
    backbone = build_backbone(architecture, stride)
    _load(path, backbone, state, architecture)
    mean, std = (tuple(map(float, facts[key].split())) if key in facts else None for key in ("mean", "std"))
    size = int(facts.get("image_size", 224))
    about = {
        "checkpoint": str(path),
        "architecture": architecture,
        "map_stride": stride,
        **({"step": facts["step"]} if "step" in facts else {}),
    }
    return Encoder(path.stem, backbone.eval(), size, mean or IMAGENET[0], std or IMAGENET[1], None, about)


def _load(path: Path, module: torch.nn.Module, state: Mapping[str, Tensor], architecture: str) -> None:
    own = module.state_dict()
    counters = {key: own[key] for key in own.keys() - state.keys() if key.endswith("num_batches_tracked")}
    whole = {**counters, **state}
    wrong = sorted(own.keys() ^ whole.keys()) or [k for k in own if own[k].shape != whole[k].shape]
    if wrong:
        raise CheckpointError(f"{path} is not a {architecture}: {wrong[0]} differs ({len(wrong)} such tensors)")
    module.load_state_dict(whole)


def _architecture(path: Path, state: Mapping[str, Tensor]) -> str:
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
    raise CheckpointError(
        f"{path} is of no backbone that is known here ({', '.join((*SMALL, *RESNETS))}): it begins with "
        f"{', '.join(sorted(state)[:3])}"
    )


def _stride(state: Mapping[str, Tensor]) -> int:
    """Of a ResNet's map: the more laterals its top-down path has, the finer."""
    laterals = sum(key.startswith(f"{PATH}laterals.") and key.endswith(".conv.weight") for key in state)
    return 2 ** (6 - laterals) if laterals and "layer4.0.conv1.weight" in state else 32


def _whole(path: Path, facts: Mapping[str, str], target: bool) -> Encoder:
    """A network that was exported with everything it has."""
    from fra_dist.export.network_export import settings_of
    from fra_dist.export.weight_files import read_tensors

    if target and facts.get("network") != "target":
        raise CheckpointError(f"{path} holds the online network alone: leave --target out")
    try:
        config = settings_of(facts, path)
        network = FRA(config.model).online
    except ConfigError as error:
        raise CheckpointError(f"{path} cannot be built again: {error}") from None
    _load(path, network, read_tensors(path), f"network with {config.model.backbone}")
    about = {"checkpoint": str(path), **{key: facts[key] for key in ("step", "network") if key in facts}}
    return _of_network(path.stem, network, config, about)


def _published(path: Path, state: Mapping[str, Tensor], target: bool) -> Encoder:
    """Sizes from the shapes; the number of attention heads and the temperature leave no trace: published values."""
    backbone = {k.removeprefix("online.backbone."): v for k, v in state.items() if k.startswith("online.backbone.")}
    architecture = _architecture(path, backbone)
    try:
        hidden, width = state["online.projector.linear2.weight"].shape[::-1]
    except (KeyError, ValueError):
        raise CheckpointError(f"{path} has no projector online.projector.linear2.weight") from None
    sizes = {"width": width, "hidden": hidden, "map_stride": _stride(backbone)}
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
    config = parse_config({"model": model, **off}, where=str(path))
    fra = FRA(config.model)
    _load(path, fra, state, f"FRA with {architecture}")
    about = {"checkpoint": str(path), "architecture": architecture}
    return _ours(path.stem, fra, config, about, target)
