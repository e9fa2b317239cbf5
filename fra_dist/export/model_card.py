"""The model card: a page of Markdown beside exported weights that says what they are and how to load them.

Everything in it comes from the checkpoint, the shards it was trained on, and results that `fra-dist eval` wrote. What a
program cannot know (where the photos came from, their terms) is given as text, or the card says that it was not stated.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from fra_dist.config import Config
from fra_dist.data.shards.manifest import load_manifest
from fra_dist.errors import CheckpointError, DataError, FraError
from fra_dist.export.backbone_export import left_out
from fra_dist.export.loading_lines import loading_lines
from fra_dist.export.weight_files import read_tensors
from fra_dist.files import failure, is_file, is_folder, paths_below, raw_bytes, raw_text
from fra_dist.layouts.weights import WEIGHTS
from fra_dist.train.checkpoints.reading import Checkpoint

NOT_STATED = "Not stated."
_HEAD = "---\nlibrary_name: fra-dist\ntags:\n- face\n- self-supervised\n- feature-extraction\n---"
"""What model hubs read at the head of a card."""
_BACKBONES = ("torchvision", "timm", "safetensors")


@dataclass(frozen=True)
class CardText:
    """What the person who exports states about the data."""

    data: str = ""
    """Where the photos came from; empty: not stated."""
    terms: str = ""
    """The terms of the photos and of the weights; empty: not stated."""


@dataclass(frozen=True)
class ExportedBefore:
    """A network that an export starts from instead of a checkpoint: an earlier export."""

    name: str
    """Its file, or its name in the package."""
    config: Config
    """What is known of its configuration: the network and the photos that it takes."""


class Result(NamedTuple):
    """The result of one task, as the card shows it."""

    task: str
    """Name of the task."""
    dataset: str
    """Name of the data set."""
    faces: dict[str, int]
    """Number of faces in each part of the data set."""
    scores: list[tuple[str, float | None, float | None, float | None]]
    """For each score its name, its value, and the lower and upper end of its interval."""
    protocol: list[tuple[str, str]]
    """Names and values of the protocol."""


def write_card(
    weights: Path,
    checkpoint: Checkpoint | ExportedBefore,
    network: str,
    results: Sequence[Result] = (),
    text: CardText | None = None,
    form: str | None = None,
    count: int | None = None,
) -> Path:
    """Write the card WEIGHTS.md (`b.pth` -> `b.pth.md`), or README.md into a folder. Returns its path.

    form: name of the format, by itself told from the suffix of a backbone's file; count: numbers in the weights, by
    itself counted in the file. Raises CheckpointError when it cannot be written.
    """
    form = form or ("safetensors" if weights.suffix == ".safetensors" else "torchvision")
    said = text or CardText()
    config = checkpoint.config
    lines = loading_lines(form, weights.name, config)
    parts = [
        *([_HEAD] if is_folder(weights) else []),
        f"# {weights.name}",
        f"The {network} {_what(form)} ({config.model.backbone}) of a pre-training run, for image features of faces.",
        *("## File", _file(weights, config, form, _count(weights) if count is None else count)),
        *("## How to load it", "```python\n" + "\n".join(lines) + "\n```"),
        *("## Data", _data(checkpoint, said.data)),
        *("## Terms", said.terms or f"{NOT_STATED} The terms of the photos hold for what is made from them."),
        *("## Pre-training", _protocol(checkpoint)),
        *("## Scores", _scores(results)),
    ]
    card = weights / "README.md" if is_folder(weights) else weights.with_name(weights.name + ".md")
    try:
        card.write_text("\n\n".join(parts) + "\n", encoding="utf-8")
    except OSError as error:
        raise failure(error, f"cannot write the model card {card}", CheckpointError) from None
    return card


def _file(weights: Path, config: Config, form: str, count: int) -> str:
    file = weights / WEIGHTS if is_folder(weights) else weights
    content = raw_bytes(file)
    rows = [
        ("name", f"`{file.name}`"),
        ("format", form),
        ("size", f"{len(content) / 1e6:.1f} MB"),
        ("numbers", f"{count:,}, with the statistics of batch norms"),
        ("SHA-256", f"`{hashlib.sha256(content).hexdigest()}`"),
    ]
    missing = left_out(config, form)
    note = f"\n\n{missing.capitalize()}. Scores of a checkpoint or run were measured with it." if missing else ""
    return _rows(rows) + note


def _what(form: str) -> str:
    if form == "published":
        return "and target networks under the published names"
    return "backbone" if form in _BACKBONES else "network, with its regions and projections"


def _count(weights: Path) -> int:
    return sum(value.numel() for value in read_tensors(weights).values())


def _data(checkpoint: Checkpoint | ExportedBefore, said: str) -> str:
    if isinstance(checkpoint, ExportedBefore):
        return said or _see(checkpoint)
    config = checkpoint.config
    told = [said or f"{NOT_STATED} `--data` of `fra-dist export` says where the photos came from."]
    if "://" in config.data.shards:  # a page about weights asks nobody: the URL is whatever their maker wrote
        return "\n\n".join([*told, f"The shards were at `{config.data.shards}` and were not looked at for this page."])
    try:
        manifest = load_manifest(config.data.shards, check_files=False)
        name = manifest.source.get("name")
        origin = f", made from `{name}`" if name else ""
        told.append(f"{manifest.total:,} photos{origin} ({manifest.skipped:,} were left out).")
    except FraError:
        told.append("The shards were not at hand when this page was written.")
    return "\n\n".join(told)


def _see(weights: ExportedBefore) -> str:
    return f"These weights were exported from `{weights.name}`: see its card."


def _protocol(checkpoint: Checkpoint | ExportedBefore) -> str:
    if isinstance(checkpoint, ExportedBefore):
        return _see(checkpoint)
    config = checkpoint.config
    model, optim = config.model, config.optim
    regions = "none (plain BYOL)"
    if model.decoder is not None:
        regions = f"{model.regions}, prototypes by {model.prototypes}, temperature {_heat(config)}"
    rows = [
        ("steps", f"{checkpoint.step:,} of {config.train.global_batch} photos, two views of each"),
        ("image size", f"{config.data.image_size} px"),
        *([("stride of the map", f"{model.map_stride} px, by a top-down path")] if model.map_stride < 32 else []),
        ("regions", regions),
        ("weights of the losses", _weights(config)),
        ("optimiser", f"{optim.name}, learning rate {optim.lr:g} at batch {optim.lr_batch}, {optim.schedule}"),
        ("weight decay", f"{optim.weight_decay:g}"),
        ("momentum of the target", f"{optim.ema_momentum:g}, {optim.ema_schedule}"),
        ("seed", str(config.seed)),
    ]
    known = checkpoint.versions
    rows += [(name, str(known[name])) for name in ("fra-dist", "commit", "torch") if known.get(name)]
    return _rows(rows)


def _weights(config: Config) -> str:
    loss = config.loss
    text = f"global {loss.global_:g}, local {loss.local:g}, relation {loss.relation:g}"
    if loss.correspondence:
        text += f", correspondence {loss.correspondence:g}{' with exchange' if loss.exchange else ''}"
    return text


def _heat(config: Config) -> str:
    end = config.model.heatmap_temperature_end
    return f"{config.model.heatmap_temperature:g}" + ("" if end is None else f" to {end:g}")


def read_results(place: str | Path, checkpoint: Checkpoint, network: str) -> list[Result]:
    """The results of a result.json, or of all in a folder and below.

    Raises DataError when there is none, one cannot be read, or one is of another network.
    """
    paths = [Path(place)] if is_file(Path(place)) else paths_below(Path(place), "result.json")
    if not paths:
        raise DataError(f"--scores {place} holds no result.json: fra-dist eval TASK --out DIR writes one")
    return [_result(path, checkpoint, network) for path in paths]


def _result(path: Path, checkpoint: Checkpoint, network: str) -> Result:
    try:
        found = json.loads(raw_text(path))
        about, dataset = found["network"], found["dataset"]
        result = Result(
            str(found["task"]),
            str(dataset["name"]),
            {str(part): int(count) for part, count in dataset["faces"].items()},
            [(str(name), *(score[key] for key in ("value", "low", "high"))) for name, score in found["scores"].items()],
            [(str(key), _plain(value)) for key, value in found["protocol"].items()],
        )
        told = (str(about.get("step")), about.get("architecture"), about.get("network", network))
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(f"{path} cannot be read as a result of fra-dist eval: {error!r}") from None
    if told != (str(checkpoint.step), checkpoint.config.model.backbone, network) or not _is_ours(about, checkpoint):
        raise DataError(
            f"{path} is of another network: {told[1]}, {told[2]}, step {told[0]} of {about.get('checkpoint')}"
        )
    return result


def _is_ours(about: Mapping[str, Any], checkpoint: Checkpoint) -> bool:
    """A result of an exported file names that file; one of a run names the checkpoint, wherever it lay."""
    measured = Path(str(about.get("checkpoint")))
    return measured.suffix != "" or measured.parts[-3:] == checkpoint.path.parts[-3:]


def _scores(results: Sequence[Result]) -> str:
    if not results:
        return "Not measured: `fra-dist eval` measures, and `fra-dist export --scores DIR` writes it here."
    parts = []
    for result in results:
        counts = ", ".join(f"{count:,} {part}" for part, count in result.faces.items() if count)
        lines = [f"### {result.task} on {result.dataset} ({counts})", ""]
        lines += ["| score | value | 95 % interval |", "|---|---|---|"]
        for name, value, low, high in result.scores:
            lines.append(f"| {name} | {_number(value)} | {_number(low)} to {_number(high)} |")
        lines += ["", *(f"- {key}: {value}" for key, value in result.protocol)]
        parts.append("\n".join(lines))
    return "\n\n".join(parts)


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"


def _plain(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _rows(rows: Sequence[tuple[str, str]]) -> str:
    return "\n".join(["| | |", "|---|---|", *(f"| {name} | {value} |" for name, value in rows)])
