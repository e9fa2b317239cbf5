"""Export of a whole network: backbone, heads, prototypes and all that regions need, in one file.

Format `network`: a .safetensors with the parameters and buffers of the online or the target network, and as metadata
what `safetensors` has and, under `settings`, the sections of the configuration by which the network is built again.
"""

import json
from collections.abc import Mapping
from pathlib import Path

from fra_dist.config import Config, parse_config
from fra_dist.errors import ConfigError
from fra_dist.export.weight_files import read_metadata, write_weight_file
from fra_dist.models.fra import FRA

SETTINGS = "settings"
"""Key of the metadata that says how the network is built; files of backbones do not have it."""


def write_network(path: Path, model: FRA, config: Config, network: str, facts: Mapping[str, str]) -> None:
    """Write the `network` (online or target) of a model; facts: more metadata.

    Raises CheckpointError when the place cannot be written.
    """
    settings = config.model_dump(mode="json", by_alias=True, include={"model": True, "loss": True})
    settings["loss"].pop("extra")  # code from outside, which only training needs
    settings["data"] = {"image_size": config.data.image_size, "mean": config.data.mean, "std": config.data.std}
    write_weight_file(path, getattr(model, network).state_dict(), {**facts, SETTINGS: json.dumps(settings)})


def is_whole(path: Path) -> bool:
    """Whether a file of weights holds a whole network. Raises CheckpointError when it cannot be read."""
    return SETTINGS in read_metadata(path)


def settings_of(facts: Mapping[str, str], path: Path) -> Config:
    """The configuration that the metadata of a whole network describe. Raises ConfigError when it cannot be used."""
    try:
        tree = json.loads(facts[SETTINGS])
    except ValueError:
        raise ConfigError(f"{path}: its settings are no JSON: export the network again") from None
    return parse_config(tree, where=str(path))
