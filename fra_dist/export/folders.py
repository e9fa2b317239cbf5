"""Folders that model hubs take: one for Hugging Face with the whole network, one for timm with the backbone.

    FOLDER/config.json, model.safetensors, README.md

`fra_dist.FaceModel.from_pretrained(FOLDER)` and `fra_dist.load(FOLDER)` read the first without a connection,
`timm.create_model("local-dir:FOLDER", pretrained=True)` the second; uploaded, `hf_hub:USER/NAME` instead of a folder.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from fra_dist.config import Config
from fra_dist.errors import CheckpointError, ConfigError
from fra_dist.export.backbone_export import plain_facts, usage_metadata
from fra_dist.export.inference import Exported
from fra_dist.export.weight_files import read_tensors, write_weight_file
from fra_dist.files import write_object
from fra_dist.layouts.timm_names import backbone_names
from fra_dist.layouts.weights import NETWORK_MARK, SETTINGS, WEIGHTS
from fra_dist.models.backbone import RESNETS
from fra_dist.models.pyramid import PATH


def model_facts(config: Config, network: str, step: int) -> dict[str, str]:
    """The metadata of a model: `usage_metadata`, and the sections of its configuration that it is built again from."""
    tree = config.model_dump(mode="json", by_alias=True)
    tree["model"] |= {"init": "", "init_sha256": ""}
    kept: dict[str, Any] = {"name": config.name, "model": tree["model"], "loss": tree["loss"]}
    kept["loss"]["extra"] = {}
    kept["data"] = {name: tree["data"][name] for name in ("image_size", "mean", "std")}
    return {**usage_metadata(config, network, step), "config": json.dumps(kept)}


def network_facts(exported: Exported) -> dict[str, str]:
    """The metadata of a whole network, from which it is built again."""
    return {**model_facts(exported.config, exported.network, exported.step), "format": NETWORK_MARK}


def write_network(exported: Exported, path: Path) -> None:
    """Write the whole network as one file of safetensors that `fra_dist.load` reads. Raises CheckpointError."""
    write_weight_file(path, exported.chosen.state_dict(), network_facts(exported))


def write_hub_folder(exported: Exported, folder: Path) -> None:
    """Write config.json and model.safetensors of the whole network. Raises CheckpointError or OSError."""
    facts = network_facts(exported)
    settings = {"library_name": "fra-dist", "model_type": "fra", "architectures": ["FaceModel"], "fra_dist": facts}
    write_object(folder / SETTINGS, settings, indent=1)
    write_network(exported, folder / WEIGHTS)


def write_timm_folder(exported: Exported, folder: Path) -> None:
    """Write the backbone as timm's hub layout. Raises ConfigError for a backbone that timm does not have."""
    name, config = timm_name(exported.config), exported.config
    state, model = timm_state(exported), _timm_model(name)
    size = config.data.image_size
    about = {
        "tag": "fra",
        "input_size": [3, size, size],
        "interpolation": "bilinear",
        "crop_pct": 1.0,
        "crop_mode": "center",
        "mean": list(config.data.mean),
        "std": list(config.data.std),
        "num_classes": 0,
        **{key: model.pretrained_cfg[key] for key in ("first_conv", "classifier") if key in model.pretrained_cfg},
    }
    facts = plain_facts(exported)
    settings = {"architecture": name, "num_classes": 0, "num_features": model.num_features, "pretrained_cfg": about}
    write_object(folder / SETTINGS, {**settings, "fra_dist": facts}, indent=1)
    write_weight_file(folder / WEIGHTS, state, facts)


def timm_name(config: Config) -> str:
    """The backbone's name in timm. Raises ConfigError, naming other formats, when it has none."""
    backbone = config.model.backbone
    if backbone.startswith("timm:"):
        return backbone.removeprefix("timm:")
    if backbone not in RESNETS:
        raise ConfigError(f"timm has no {backbone!r} to load this backbone: use onnx, torch-export or network")
    return backbone


def timm_state(exported: Exported) -> dict[str, Tensor]:
    """The backbone's tensors under the names of timm's whole model without a classifier.

    What that model has and the backbone lacks, such as a last norm, is as timm initialises it.
    """
    own = exported.chosen.backbone.state_dict()
    model = _timm_model(timm_name(exported.config)).state_dict()
    if exported.config.model.backbone in RESNETS:
        return {name: value for name, value in own.items() if not name.startswith(PATH)}
    names = backbone_names(own, model)
    return {**model, **{theirs: own[mine] for mine, theirs in names.items()}}


def lost_in_timm(exported: Exported) -> tuple[str, ...]:
    """Tensors of timm's model that pre-training did not have, which are not trained."""
    if exported.config.model.backbone in RESNETS:
        return ()
    model = _timm_model(timm_name(exported.config)).state_dict()
    trained = set(backbone_names(exported.chosen.backbone.state_dict(), model).values())
    return tuple(name for name in model if name not in trained)


def check_timm_folder(exported: Exported, folder: Path) -> float:
    """Largest relative difference between the backbone and what timm loads from the folder; infinity for others."""
    import timm

    model: nn.Module = timm.create_model(f"local-dir:{folder}", pretrained=True).eval()
    loaded, wanted = model.state_dict(), read_tensors(folder / WEIGHTS)
    if loaded.keys() != wanted.keys() or not all(torch.equal(loaded[name], wanted[name]) for name in wanted):
        return float("inf")
    if exported.config.model.backbone not in RESNETS or exported.config.model.map_stride < 32:
        return 0.0
    images = exported.images()
    with torch.no_grad():
        ours, theirs = exported.chosen.backbone(images), model.forward_features(images)  # type: ignore[operator]
    return float((ours - theirs).abs().max() / ours.abs().max())


def _timm_model(name: str) -> Any:
    try:
        import timm
    except ImportError:
        raise ConfigError(
            'this format needs the package timm: pip install "fra-dist[export]", or in a checkout '
            "`uv pip install -e '.[export]'`"
        ) from None
    try:
        return timm.create_model(name, pretrained=False, num_classes=0)
    except (RuntimeError, ValueError) as error:
        raise CheckpointError(f"timm cannot build {name}: {error}") from None


def same_tensors(one: Mapping[str, Tensor], two: Mapping[str, Tensor]) -> float:
    """0.0 when two state dicts are equal, else infinity."""
    same = one.keys() == two.keys() and all(torch.equal(one[name], two[name]) for name in one)
    return 0.0 if same else float("inf")
