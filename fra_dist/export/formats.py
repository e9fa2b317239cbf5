"""Every format of `fra-dist export`: what is written, how it is loaded back, and what it cannot express."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from fra_dist.errors import CheckpointError, ConfigError
from fra_dist.export import folders, graphs
from fra_dist.export.backbone_export import left_out, write_backbone
from fra_dist.export.inference import Exported, largest_difference, open_exported
from fra_dist.export.places import place_for, whole
from fra_dist.export.weight_files import read_tensors, write_weight_file
from fra_dist.files import is_folder
from fra_dist.layouts.published_names import from_published, to_published, without_counterpart
from fra_dist.models.fra import FRA
from fra_dist.models.pyramid import PATH

DEFAULT = "network"
_EXACT = 1e-6
_ROUNDED = 1e-3
"""Largest relative difference of outputs that other kernels may have."""


@dataclass(frozen=True)
class Format:
    """One format of export."""

    about: str
    """What it is, for the help."""
    write: Callable[[Exported, Path], None]
    """Writes it to a path."""
    check: Callable[[Exported, Path], float]
    """Loads it back with the library it is for; the largest relative difference."""
    suffixes: tuple[str, ...] = ()
    """What its file may end in, the default first; empty for a folder."""
    tolerance: float = _EXACT
    """Largest difference with which an export is kept."""
    whole: bool = True
    """Whether regions and projections leave with it."""


@dataclass(frozen=True)
class Written:
    """An export that was written and loaded back."""

    path: Path
    """The file or folder."""
    exported: Exported
    """What it was made of."""
    form: str
    """Name of its format."""
    difference: float
    """Largest relative difference between the network and what was loaded back."""
    lost: str
    """What the format does not express, in one line; empty when it expresses everything."""

    @property
    def numbers(self) -> int:
        """Parameters and values of buffers that left with it."""
        model, chosen = self.exported.model, self.exported.chosen
        module = model if self.form == "published" else chosen if FORMATS[self.form].whole else chosen.backbone
        return sum(value.numel() for name, value in module.state_dict().items() if not self._stays(name))

    @property
    def bytes(self) -> int:
        """Size of the file, or of the files in the folder."""
        files = self.path.iterdir() if is_folder(self.path) else [self.path]
        return sum(file.stat().st_size for file in files)

    def _stays(self, name: str) -> bool:
        return self.form in ("torchvision", "timm") and name.startswith(PATH)


def export_model(
    checkpoint: str | Path,
    form: str = DEFAULT,
    out: str | Path | None = None,
    network: str = "online",
    overwrite: bool = False,
) -> Written:
    """Write a network of a checkpoint (or of a run's newest one) for other code, and load it back to compare.

    checkpoint: a run, a checkpoint, or a network that was exported before, such as `small-synthetic`.

    form: a name in `FORMATS`; out: a file or a folder, which may be new, by default a name made of backbone, network
    and step; overwrite: replace what is there. Nothing is left behind after an error.

    Raises ConfigError for a form that cannot express the network, CheckpointError when it cannot be written, or what is
    loaded back differs.
    """
    if form not in FORMATS:
        raise ConfigError(f"format {form!r} is not one of {', '.join(FORMATS)}")
    chosen, exported = FORMATS[form], open_exported(checkpoint, network)
    if exported.alone and form == "published":
        raise ConfigError(
            f"{checkpoint} has one network alone, and the published form has both: export it from the run"
        )
    backbone = exported.config.model.backbone.replace(":", "-").replace("/", "-")
    name = f"{backbone}-{network}-step{exported.step}"
    name += (chosen.suffixes or (f"-{form}",))[0]
    path = place_for(out, name, chosen.suffixes, overwrite)
    lost = lost_in(exported, form)
    with whole(path, folder=not chosen.suffixes) as partial:
        made = partial.with_name(f"{partial.name}{path.suffix}") if chosen.suffixes else partial
        try:
            chosen.write(exported, made)
            difference = chosen.check(exported, made)
            if not difference <= chosen.tolerance:
                raise CheckpointError(
                    f"{form}: loaded back, the network differs by {difference:.2g} (relative), more than "
                    f"{chosen.tolerance:g}: nothing was written"
                )
            if chosen.suffixes:
                made.replace(partial)
        finally:
            if chosen.suffixes:
                made.unlink(missing_ok=True)
    return Written(path, exported, form, difference, lost)


def lost_in(exported: Exported, form: str) -> str:
    """One line on what a format does not express of a network, and which does; empty when it expresses everything."""
    if form == "published":
        return without_counterpart(exported.model.state_dict()) or ""
    parts = [left_out(exported.config, form)]
    if form == "timm" and (names := folders.lost_in_timm(exported)):
        parts.append(f"not trained, as timm initialises them: {', '.join(names[:4])}{', ...' * (len(names) > 4)}")
    if not FORMATS[form].whole and exported.chosen.has_regions:
        parts.append("the backbone alone: --format network, huggingface, onnx or torch-export keep the regions")
    return "; ".join(part for part in parts if part)


def _published(exported: Exported, path: Path) -> None:
    facts = folders.model_facts(exported.config, exported.network, exported.step)
    write_weight_file(path, to_published(exported.model.state_dict()), facts)


def _check_published(exported: Exported, path: Path) -> float:
    again = to_published(from_published(read_tensors(path)))
    return folders.same_tensors(again, to_published(exported.model.state_dict()))


def _check_torchvision(exported: Exported, path: Path) -> float:
    import torchvision

    net: nn.Module = getattr(torchvision.models, exported.config.model.backbone)()
    net.fc = nn.Identity()
    net.load_state_dict(torch.load(path, map_location="cpu", weights_only=True), strict=True)
    images = exported.images()
    with torch.no_grad():
        theirs: Tensor = net.eval()(images)
        if exported.config.model.map_stride < 32:  # the path is not in the file: the map before it is not at hand
            own = {k: v for k, v in exported.chosen.backbone.state_dict().items() if k in net.state_dict()}
            return folders.same_tensors(own, net.state_dict())
        return largest_difference([exported.chosen.backbone(images).mean((2, 3))], [theirs])


def _check_safetensors(exported: Exported, path: Path) -> float:
    return folders.same_tensors(read_tensors(path), exported.chosen.backbone.state_dict())


def _check_network(exported: Exported, path: Path) -> float:
    file = path / folders.WEIGHTS if is_folder(path) else path
    again = FRA(exported.config.model).online
    again.load_state_dict(read_tensors(file))
    images = exported.images()
    with torch.no_grad():
        ours, theirs = (net.eval().infer(images) for net in (exported.chosen, again))
    pairs = [(getattr(ours, name), getattr(theirs, name)) for name in ("embedding", "heatmap", "local_embedding")]
    found = [(one, two) for one, two in pairs if one is not None]
    return largest_difference([one for one, _ in found], [two for _, two in found])


def _check_graph(run: Callable[[Path], Callable[[Tensor], list[Tensor]]]) -> Callable[[Exported, Path], float]:
    """Compare on batches of two sizes, neither that of the export."""

    def check(exported: Exported, path: Path) -> float:
        network, loaded = exported.inference(), run(path)
        tried = [exported.images(count) for count in (1, 3)]
        return max(largest_difference(graphs.outputs_of(network, images), loaded(images)) for images in tried)

    return check


def _backbone(form: str) -> Callable[[Exported, Path], None]:
    return lambda exported, path: write_backbone(exported, form, path)


FORMATS: dict[str, Format] = {
    "network": Format(
        "the whole network in one file, for fra_dist.load", folders.write_network, _check_network, (".safetensors",)
    ),
    "huggingface": Format(
        "the whole network as a folder with a model card, for from_pretrained", folders.write_hub_folder, _check_network
    ),
    "onnx": Format(
        "the whole network for onnxruntime", graphs.write_onnx, _check_graph(graphs.run_onnx), (".onnx",), _ROUNDED
    ),
    "torch-export": Format(
        "the whole network as a program of torch.export",
        graphs.write_program, _check_graph(graphs.run_program), (".pt2",), _ROUNDED,
    ),
    "torchvision": Format(
        "the backbone, for torchvision", _backbone("torchvision"), _check_torchvision, (".pth", ".pt"), _ROUNDED, False
    ),
    "timm": Format(
        "the backbone as a folder, for timm", folders.write_timm_folder, folders.check_timm_folder, (), _ROUNDED, False
    ),
    "safetensors": Format(
        "the backbone in one file", _backbone("safetensors"), _check_safetensors, (".safetensors",), _EXACT, False
    ),
    "published": Format(
        "both networks under the published names", _published, _check_published, (".pth", ".pt")
    ),
}  # fmt: skip
