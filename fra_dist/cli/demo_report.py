"""What the demo measures and shows."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch

from fra_dist.config import Config, dump_config
from fra_dist.eval.labelled import Labelled
from fra_dist.eval.regions import MASK_CLASSES
from fra_dist.eval.suite import HEATMAPS, POSITION, Scores, evaluate, floors
from fra_dist.eval.table import probe_table, region_table
from fra_dist.models.fra import FRA
from fra_dist.report.overlay import to_images
from fra_dist.report.page import Headline, Picture, ReportData, headlines_of, stages_of, write_page
from fra_dist.report.run_pictures import draw_run_heatmaps
from fra_dist.train.checkpoint import load_model
from fra_dist.train.run_folder import read_rows, versions

UNTRAINED = "untrained"

_SUMMARY = (
    "A small network was pre-trained on synthetic faces, without labels, by FRA (facial region awareness): learnable "
    "queries found regions by themselves. The true regions of the synthetic faces tell how well."
)
_NOTES = (
    "The faces are synthetic, the network is small and the run is short: the page shows that every part works and "
    "what each form of the method does under one budget, not what FRA reaches on photographs.",
    "The published form starts with all queries alike and needs far more steps to tell them apart; FRA here means the "
    "form with centred queries and an offset for each.",
    "All networks saw the same photos in the same views for the same number of steps.",
)


def measure(configs: Mapping[str, Config], labelled: Labelled) -> list[Scores]:
    """Scores of every run, of an untrained network of the first one's kind, and of guessing."""
    first = next(iter(configs.values()))
    scores = [evaluate(name, load_model(c.output)[0].online, labelled, c) for name, c in configs.items()]
    torch.manual_seed(first.seed)
    scores.append(evaluate(UNTRAINED, FRA(first.model).eval().online, labelled, first))
    return [*scores, floors(labelled, first.model.regions)]


def draw_report(
    configs: Mapping[str, Config], scores: Sequence[Scores], labelled: Labelled, out: Path, seconds: float
) -> Path:
    """Write OUT/report.html and return its path. Raises DataError when it cannot be written."""
    config = next(iter(configs.values()))
    rows = {name: read_rows(Path(c.output) / "metrics.jsonl") for name, c in configs.items()}
    data = ReportData(
        title="What FRA found in synthetic faces",
        summary=_SUMMARY,
        regions=config.model.regions,
        headlines=_headlines(config, rows, scores),
        examples=[_examples(config, labelled, out)],
        stages=stages_of(config.output),
        region_table=region_table(scores),
        probe_table=probe_table(scores),
        curves=rows,
        facts=_facts(configs, labelled, seconds),
        settings=dump_config(config),
        commands=["make demo"],
        notes=_NOTES,
    )
    return write_page(data, out / "report.html")


def _headlines(config: Config, rows: Mapping[str, list[dict[str, float]]], scores: Sequence[Scores]) -> list[Headline]:
    last = next(iter(rows.values()))[-1]
    named = {one.name: one.regions for one in scores}
    first = scores[0].name
    shown = {first: named[first][HEATMAPS], UNTRAINED: named[UNTRAINED][HEATMAPS], "position": named["guess"][POSITION]}
    values = {name: {"nmi": found.everything.nmi, "miou": found.everything.miou} for name, found in shown.items()}
    return headlines_of(last["loss/relation"], config.model.regions, int(last["regions/in_use"]), values)


def _examples(config: Config, labelled: Labelled, out: Path, count: int = 8) -> Picture:
    model, _, _ = load_model(config.output)
    places = np.linspace(0, len(labelled) - 1, count).astype(int)
    path = out / "examples.png"
    images = to_images(labelled.photos[places], config.data.mean, config.data.std)
    truth = None
    if labelled.masks is not None:
        truth = np.stack([labelled.masks[i] for i in places])
    data = config.data
    draw_run_heatmaps(model.online, images, path, mean=data.mean, std=data.std, truth=truth, classes=MASK_CLASSES)
    return Picture(
        path,
        f"{count} synthetic faces, their true regions ({', '.join(MASK_CLASSES)}), the regions found, and the map of each region",
        "Faces of people that the network has not seen.",
    )


def _facts(configs: Mapping[str, Config], labelled: Labelled, seconds: float) -> list[tuple[str, str]]:
    config = next(iter(configs.values()))
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    found = versions(device)
    steps, batch = config.train.steps or 0, config.train.global_batch
    packages = ("torch", "deepspeed", "nvidia-dali-cuda130", "webdataset")
    return [
        ("pre-training", f"{len(configs)} runs of {steps} steps with {batch} faces each, two views a face"),
        ("network", f"{config.model.backbone}, {config.data.image_size} px, {config.model.regions} regions"),
        ("measured on", f"{len(labelled)} faces of other people"),
        ("time", f"{seconds:.0f} s in all"),
        ("device", str(found["device"])),
        ("versions", ", ".join(f"{name} {found[name]}" for name in packages)),
    ]
