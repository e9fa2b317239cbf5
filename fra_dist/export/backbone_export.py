"""Export of the backbone, for other code to load, and of whole networks.

`torchvision`: a .pth that torchvision's own network loads with strict=True once its classifier is gone:

    net = torchvision.models.resnet50()
    net.fc = torch.nn.Identity()
    net.load_state_dict(torch.load("backbone.pth", weights_only=True), strict=True)

`net(images)` is then the mean over space of the map of stride 32, which is the map that pre-training saw unless
`model.map_stride` is finer: torchvision has no top-down path to a finer map, so the path is left out. `safetensors`:
the same names and numbers and the path, with the architecture, the stride of the map, the image size and the
normalisation as metadata. `network`: the whole network with its regions, for this package (`network_export`).
"""

from pathlib import Path

from torch import Tensor

from fra_dist.config import Config
from fra_dist.errors import ConfigError
from fra_dist.export.network_export import write_network
from fra_dist.export.weight_files import write_weight_file
from fra_dist.models.backbone import RESNETS
from fra_dist.models.fra import FRA
from fra_dist.models.pyramid import PATH
from fra_dist.train.checkpoints.reading import load_model

FORMATS = {"torchvision": ".pth", "safetensors": ".safetensors", "network": ".safetensors"}
NETWORKS = ("online", "target")


def backbone_state(model: FRA, network: str = "online") -> dict[str, Tensor]:
    """Parameters and buffers of the online or the target backbone; for a ResNet,
    under torchvision's names without `fc`."""
    _check_network(network)
    return getattr(model, network).backbone.state_dict()


def export_backbone(
    checkpoint: str | Path, form: str, out: str | Path | None = None, network: str = "online"
) -> tuple[Path, Config]:
    """Write the backbone, or the whole network, of a checkpoint (or of a run's newest one).

    Returns the file's path and the run's configuration.

    form: `torchvision`, `safetensors` or `network`; out: a file or a folder, by default NAME-NETWORK-stepN in the
    current folder.
    Raises CheckpointError or ConfigError, for example when a network that torchvision lacks is asked for in its format.
    """
    if form not in FORMATS:
        raise ConfigError(f"format {form!r} is not one of {', '.join(FORMATS)}")
    _check_network(network)
    _check_suffix(out, form)
    model, config, info = load_model(checkpoint)
    if form == "torchvision" and config.model.backbone not in RESNETS:
        raise ConfigError(f"torchvision has no {config.model.backbone!r} to load this backbone: use safetensors")
    path = _place(out, f"{config.model.backbone}-{network}-step{info.get('step', 0)}{FORMATS[form]}")
    facts = usage_metadata(config, network, int(info.get("step", 0)))
    if form == "network":
        write_network(path, model, config, network, facts)
        return path, config
    state = backbone_state(model, network)
    if form == "torchvision":
        state = {name: value for name, value in state.items() if not name.startswith(PATH)}
    write_weight_file(path, state, facts)
    return path, config


def left_out(config: Config, form: str) -> str:
    """One line that says which part of the backbone the file does not hold; empty when it holds everything."""
    if form != "torchvision" or config.model.map_stride == 32:
        return ""
    return (
        f"not in the file: the top-down path to the map of stride {config.model.map_stride}, which torchvision does "
        "not have; --format safetensors keeps it"
    )


def usage_metadata(config: Config, network: str, step: int) -> dict[str, str]:
    """What a user of the weights must know, as text by key, for the metadata of a file."""
    numbers = {"mean": config.data.mean, "std": config.data.std}
    return {
        "architecture": config.model.backbone,
        "map_stride": str(config.model.map_stride),
        "network": network,
        "step": str(step),
        "image_size": str(config.data.image_size),
        **{name: " ".join(f"{value:g}" for value in values) for name, values in numbers.items()},
    }


def _check_network(network: str) -> None:
    if network not in NETWORKS:
        raise ConfigError(f"network {network!r} is not one of {', '.join(NETWORKS)}")


def _check_suffix(out: str | Path | None, form: str) -> None:
    if out is None or Path(out).is_dir():
        return
    fitting = (".pth", ".pt") if form == "torchvision" else (".safetensors",)
    if Path(out).suffix not in fitting:
        raise ConfigError(f"--out {out} must end in {' or '.join(fitting)} for the format {form}")


def _place(out: str | Path | None, name: str) -> Path:
    if out is None:
        return Path(name)
    return Path(out) / name if Path(out).is_dir() else Path(out)
