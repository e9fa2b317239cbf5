"""What the demo measures and shows."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from fra_dist.config import Config, dump_config
from fra_dist.eval.labelled import Labelled
from fra_dist.eval.regions.agreement import MASK_CLASSES, position_clusters
from fra_dist.eval.score_table import probe_table, region_table
from fra_dist.eval.suite import HEATMAPS, POSITION, Scores, evaluate, floors, regions_of
from fra_dist.models.fra import FRA
from fra_dist.report.overlay import to_images
from fra_dist.report.page import Film, Headline, Picture, ReportData, write_page
from fra_dist.report.report_sections import compare, headlines_of, stages_of
from fra_dist.report.run_pictures import draw_run_heatmaps
from fra_dist.train.checkpoints.reading import load_model
from fra_dist.train.run_dir.folder import read_rows, versions

UNTRAINED = "untrained"
SHOWN = 8
"""Faces in the pictures of the page."""

_SUMMARY = (
    "A small network was pre-trained on synthetic faces, without labels, by FRA (facial region awareness): learnable "
    "queries found regions by themselves. The true regions of the synthetic faces tell how well."
)
_NOTES = (
    "The faces are synthetic, the network is small and the run is short: the page shows that every part works and "
    "what each form of the method does under one budget, not what FRA reaches on photographs.",
    "The published form starts with all queries alike and needs far more steps to tell them apart; FRA here means the "
    "form with centred queries and an offset for each.",
    "Heatmap temperature and the weight of the relation loss are set for a short run, in all of them alike; the "
    "settings below say how.",
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
    places = np.linspace(0, len(labelled) - 1, min(SHOWN, len(labelled))).astype(int)
    rows = {name: read_rows(Path(c.output) / "metrics.jsonl") for name, c in configs.items()}
    data = ReportData(
        title="What FRA found in synthetic faces",
        summary=_SUMMARY,
        regions=config.model.regions,
        headlines=_headlines(config, rows, scores),
        examples=_comparison(configs, labelled, places),
        classes=MASK_CLASSES,
        stages=stages_of(config.output),
        region_table=region_table(scores),
        probe_table=probe_table(scores),
        curves=rows,
        sheets=[_sheet(config, labelled, places, out)],
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


def _comparison(configs: Mapping[str, Config], labelled: Labelled, places: NDArray[np.int64]) -> Film:
    """The same faces with the regions of every run."""
    found = {}
    for name, config in configs.items():
        label = name if config.model.decoder else f"{name}, k-means on features"
        found[label] = regions_of(load_model(config.output)[0].online, labelled, config, config.seed)[places]
    found["k-means on position"] = position_clusters(next(iter(configs.values())).model.regions)
    masks = labelled.masks or []
    return compare(labelled.photos[places], [masks[i] for i in places] if masks else [], found)


def _sheet(config: Config, labelled: Labelled, places: NDArray[np.int64], out: Path) -> Picture:
    """The same faces with the soft maps of the first run."""
    path, data = out / "examples" / "sheet.png", config.data
    images = to_images(labelled.photos[places], data.mean, data.std)
    draw_run_heatmaps(load_model(config.output)[0].online, images, path, mean=data.mean, std=data.std, title="FRA")
    alt = f"{len(places)} synthetic faces, the regions found in them, and the map of each region"
    return Picture(path, alt, "Pictures that the network has not seen.")


def _facts(configs: Mapping[str, Config], labelled: Labelled, seconds: float) -> list[tuple[str, str]]:
    config = next(iter(configs.values()))
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    found = versions(device)
    steps, batch = config.train.steps or 0, config.train.global_batch
    packages = ("torch", "deepspeed", "nvidia-dali-cuda130", "webdataset")
    return [
        ("pre-training", f"{len(configs)} runs of {steps} steps with {batch} faces each, two views a face"),
        ("network", f"{config.model.backbone}, {config.data.image_size} px, {config.model.regions} regions"),
        ("measured on", f"{len(labelled)} pictures that no run has seen"),
        ("time", f"{seconds:.0f} s in all"),
        ("device", str(found["device"])),
        ("versions", ", ".join(f"{name} {found[name]}" for name in packages)),
    ]
