"""Starting a run from weights that exist: `model.init`.

The file is read once, at step 0. Its SHA-256 goes into the configuration (`model.init_sha256`) and so into every
checkpoint: a resumed run needs the file no more, and one that was begun from other weights is refused.
"""

import hashlib
from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from fra_dist import distributed, files
from fra_dist.config import Config
from fra_dist.errors import CheckpointError, ConfigError
from fra_dist.files import open_stream
from fra_dist.layouts.matching import COUNTER, Match, match_backbone, match_whole
from fra_dist.layouts.shipped_weights import find_weights, no_init
from fra_dist.layouts.weights import WEIGHTS, Weights, open_weights
from fra_dist.models.fra import FRA
from fra_dist.train.checkpoints.reading import MANIFEST, Checkpoint, find_checkpoint, list_checkpoints, newest_config

NETWORKS = ("online", "target")


def with_digest(config: Config, fresh: bool = False) -> Config:
    """The configuration with the SHA-256 of the weights that `model.init` names. Every rank calls it.

    It is taken from the file, or, when that is gone, from the newest checkpoint of the run (not with `fresh`). Raises
    CheckpointError when neither is there, ConfigError when the file is not the one that `model.init_sha256` asks for.
    """
    if not config.model.init:
        return config
    digest = distributed.from_main(lambda: _digest(config, fresh))
    return config.model_copy(update={"model": config.model.model_copy(update={"init_sha256": digest})})


def initialise(model: FRA, config: Config) -> str | None:
    """Put the weights of `model.init` into both networks, on every rank. One line on what matched; None without any.

    Rank 0 reads the file. Raises CheckpointError when it does not fit the model.
    """
    if not config.model.init:
        return None
    taken, told = distributed.from_main(lambda: _matched(model, config))
    own = model.state_dict()
    model.load_state_dict({**own, **{name: value.to(own[name].dtype) for name, value in taken.items()}})
    return told


def _digest(config: Config, fresh: bool) -> str:
    wanted, place = config.model.init_sha256, _place(config)
    file = _file_of(place)
    if not files.exists(file):
        before = None if fresh else newest_config(Path(config.output) / "checkpoints")
        if before is None or not before.model.init_sha256:
            raise no_init(place)
        return wanted or before.model.init_sha256
    try:
        with open_stream(file) as stream:
            found = hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as error:
        raise files.failure(error, f"model.init={place} cannot be read", CheckpointError) from None
    if wanted and found != wanted:
        raise ConfigError(f"model.init={place} has the SHA-256 {found}, but model.init_sha256 is {wanted}")
    return found


def _place(config: Config) -> Path:
    """The file or folder that `model.init` names; weights of the package go by their name."""
    place = Path(config.model.init)
    return place if files.exists(place) else find_weights(config.model.init) or place


def _file_of(place: Path) -> Path:
    """The file behind `model.init`: itself, the weights of an exported folder, or those of a run's checkpoint."""
    if not files.is_folder(place):
        return place
    return find_checkpoint(place).path / "model.safetensors" if _is_run(place) else place / WEIGHTS


def _is_run(place: Path) -> bool:
    found = (place, place / "checkpoints")
    return files.exists(place / MANIFEST) or any(list_checkpoints(folder) for folder in found)


def _matched(model: FRA, config: Config) -> tuple[dict[str, Tensor], str]:
    """(tensors under the model's names, what matched in one line)."""
    place, backbone = _place(config), config.model.backbone
    weights = _of_run(find_checkpoint(place)) if files.is_folder(place) and _is_run(place) else open_weights(place)
    own = model.state_dict()
    if weights.kind == "fra":
        found = match_whole(weights, own)
    elif weights.kind == "network":
        found = _to_both(weights, own)
    else:
        one = match_backbone(weights, model.online.backbone, backbone)
        taken = {f"{net}.backbone.{key}": value for net in NETWORKS for key, value in one.taken.items()}
        return taken, _told(weights, one, f"the backbone {backbone} of both networks")
    lost = [name for name in found.missing if name.startswith("online.backbone.")]
    if lost:
        raise CheckpointError(f"model.init={place} does not fit the backbone {backbone}: {lost[0]} differs")
    return found.taken, _told(weights, found, "both networks")


def _of_run(found: Checkpoint) -> Weights:
    return Weights(found.path / "model.safetensors", "fra", f"a run of this package, step {found.step}", found.model())


def _to_both(weights: Weights, own: Mapping[str, Tensor]) -> Match:
    """An inference network, which both networks start as."""
    doubled = {f"{net}.{key}": value for net in NETWORKS for key, value in weights.state.items()}
    taken = {k: v for k, v in doubled.items() if k in own and own[k].shape == v.shape}
    missing = tuple(key for key in own if key not in taken and not key.endswith(COUNTER))
    unused = tuple(key for key in weights.state if f"online.{key}" not in taken)
    return Match(taken, missing, unused)


def _told(weights: Weights, found: Match, into: str) -> str:
    return f"weights of {weights.path} ({weights.layout}) into {into}: {found.told()}"
