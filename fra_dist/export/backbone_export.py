"""Export of the backbone alone, for other code to load.

`torchvision`: a .pth that torchvision's own network loads with strict=True once its classifier is gone:

    net = torchvision.models.resnet50()
    net.fc = torch.nn.Identity()
    net.load_state_dict(torch.load("backbone.pth", weights_only=True), strict=True)

`net(images)` is then the mean over space of the map of stride 32, which is the map that pre-training saw unless
`model.map_stride` is finer: torchvision has no top-down path to a finer map, so the path is left out. `safetensors`:
the same names and numbers and the path. Both carry the architecture, the stride of the map, the image size, the
normalisation and what tells the function (`function_facts`), which this package reads and others do not see.
"""

from pathlib import Path

from torch import Tensor

from fra_dist.config import Config
from fra_dist.errors import ConfigError
from fra_dist.export.function_facts import function_facts
from fra_dist.export.inference import NETWORKS, Exported, open_exported
from fra_dist.export.places import place_for
from fra_dist.export.weight_files import write_weight_file
from fra_dist.models.backbone import RESNETS, build_backbone
from fra_dist.models.fra import FRA
from fra_dist.models.pyramid import PATH

FORMATS = {"torchvision": (".pth", ".pt"), "safetensors": (".safetensors",)}


def backbone_state(model: FRA, network: str = "online") -> dict[str, Tensor]:
    """Parameters and buffers of the online or the target backbone; for a ResNet,
    under torchvision's names without `fc`."""
    if network not in NETWORKS:
        raise ConfigError(f"network {network!r} is not one of {', '.join(NETWORKS)}")
    return getattr(model, network).backbone.state_dict()


def export_backbone(
    checkpoint: str | Path,
    form: str,
    out: str | Path | None = None,
    network: str = "online",
    overwrite: bool = False,
) -> tuple[Path, Config]:
    """Write the backbone of a checkpoint (or of a run's newest one). Returns the file's path and the run's
    configuration.

    form: `torchvision` or `safetensors`; out: a file or a folder, by default NAME-NETWORK-stepN in the current folder;
    overwrite: replace what is there. Raises CheckpointError or ConfigError, for example when a network that torchvision
    lacks is asked for in its format.
    """
    if form not in FORMATS:
        raise ConfigError(f"format {form!r} is not one of {', '.join(FORMATS)}")
    exported = open_exported(checkpoint, network)
    name = exported.config.model.backbone.replace(":", "-").replace("/", "-")
    path = place_for(out, f"{name}-{network}-step{exported.step}{FORMATS[form][0]}", FORMATS[form], overwrite)
    write_backbone(exported, form, path)
    return path, exported.config


def write_backbone(exported: Exported, form: str, path: Path) -> None:
    """Write the backbone of a network as `torchvision` or `safetensors`. Raises ConfigError or CheckpointError."""
    backbone = exported.config.model.backbone
    state = backbone_state(exported.model, exported.network)
    if form == "torchvision":
        if backbone not in RESNETS:
            raise ConfigError(
                f"torchvision has no {backbone!r} to load this backbone: use safetensors, network or onnx"
            )
        state = {name: value for name, value in state.items() if not name.startswith(PATH)}
        facts = plain_facts(exported)
    else:
        facts = usage_metadata(exported.config, exported.network, exported.step)
        facts |= function_facts(exported.chosen.backbone, backbone)
    write_weight_file(path, state, facts)


def plain_facts(exported: Exported) -> dict[str, str]:
    """The metadata of the backbone as torchvision and timm have it: of a ResNet without the top-down path to a finer
    map."""
    config, backbone = exported.config, exported.chosen.backbone
    facts = usage_metadata(config, exported.network, exported.step)
    if config.model.backbone in RESNETS and config.model.map_stride < 32:
        facts["map_stride"] = "32"
        own = {name: value for name, value in backbone.state_dict().items() if not name.startswith(PATH)}
        backbone = build_backbone(config.model.backbone)
        backbone.load_state_dict(own)
    return facts | function_facts(backbone, config.model.backbone)


def left_out(config: Config, form: str) -> str:
    """One line that says which part of the backbone the file does not hold; empty when it holds everything."""
    if form not in ("torchvision", "timm") or config.model.map_stride == 32:
        return ""
    return (
        f"not in the file: the top-down path to the map of stride {config.model.map_stride}, which {form} does "
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
