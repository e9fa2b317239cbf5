"""What the demo measures and shows."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from fra_dist.config import Config, dump_config
from fra_dist.demo.demo_words import NOTES, SUMMARY, floors_ahead
from fra_dist.eval.baselines import UNTRAINED
from fra_dist.eval.features.encoder import Encoder
from fra_dist.eval.features.feature_cache import Cache
from fra_dist.eval.features.networks import on_device, open_encoder
from fra_dist.eval.features.prepared_faces import PreparedFaces
from fra_dist.eval.quick_look import (
    GUESS,
    Look,
    look_at,
    look_at_baselines,
    look_at_guesses,
    own_regions,
    quick_settings,
)
from fra_dist.eval.regions.pixel_regions import position_clusters
from fra_dist.eval.score_table import read_table, region_table
from fra_dist.eval.settings import Settings
from fra_dist.json_lines import read_rows
from fra_dist.report.overlay import to_images
from fra_dist.report.page import Film, Headline, Picture, ReportData, write_page
from fra_dist.report.report_sections import compare, headlines_of, stages_of
from fra_dist.report.run_pictures import draw_run_heatmaps
from fra_dist.train.checkpoints.restoring import load_model
from fra_dist.train.run_dir.folder import versions

SHOWN = 8
"""Faces in the pictures of the page."""


def measure_runs(configs: Mapping[str, Config], prepared: PreparedFaces, kept: Cache) -> list[Look]:
    """Looks at every run, an untrained network of the first one's kind, and guessing; features are kept in `kept`."""
    settings = _settings(configs)
    encoders = [_encoder(name, config) for name, config in configs.items()]
    looks = [look_at(encoder, prepared, settings, kept) for encoder in encoders]
    looks += look_at_baselines(encoders[0], prepared, settings, kept, [UNTRAINED])
    return [*looks, look_at_guesses(encoders[0], prepared, settings, kept)]


def _settings(configs: Mapping[str, Config]) -> Settings:
    first = next(iter(configs.values()))
    return quick_settings(first.seed, first.model.regions)


def _encoder(name: str, config: Config) -> Encoder:
    return on_device(replace(open_encoder(config.output), name=name))


def draw_report(
    configs: Mapping[str, Config], looks: Sequence[Look], prepared: PreparedFaces, out: Path, seconds: float
) -> Path:
    """Write OUT/report.html and return its path. Raises DataError when it cannot be written."""
    config = next(iter(configs.values()))
    places = np.linspace(0, len(prepared) - 1, min(SHOWN, len(prepared))).astype(int)
    rows = {name: read_rows(Path(c.output) / "metrics.jsonl") for name, c in configs.items()}
    data = ReportData(
        title="What FRA found in synthetic faces",
        summary=SUMMARY,
        regions=config.model.regions,
        headlines=_headlines(config, rows, looks),
        examples=_comparison(configs, prepared, places),
        classes=prepared.faces.mask_classes,
        stages=stages_of(config.output),
        region_table=region_table(looks),
        probe_table=read_table(looks),
        curves=rows,
        sheets=[_sheet(config, prepared, places, out)],
        facts=_facts(configs, prepared, seconds),
        settings=dump_config(config),
        commands=["make demo"],
        notes=[*NOTES, *floors_ahead(looks)],
    )
    return write_page(data, out / "report.html")


def _headlines(config: Config, rows: Mapping[str, list[dict[str, float]]], looks: Sequence[Look]) -> list[Headline]:
    last = next(iter(rows.values()))[-1]
    found = {look.name: look.results["regions"].scores for look in looks}
    shown = {looks[0].name: "heatmaps", GUESS: "position"}
    values = {
        "k-means on position" if name == GUESS else name: {
            key: found[name][f"{way}/{key}"].value for key in ("parts_nmi", "nmi", "miou")
        }
        for name, way in shown.items()
    }
    return headlines_of(last, config.model.regions, values)


def _comparison(configs: Mapping[str, Config], prepared: PreparedFaces, places: NDArray[np.int64]) -> Film:
    """The same faces with the regions of every run, as they were scored."""
    found, settings = {}, _settings(configs)
    photos = prepared.photos[places]
    for name, config in configs.items():
        label = name if config.model.decoder else f"{name}, k-means on features"
        found[label] = own_regions(_encoder(name, config), prepared, settings)(photos)
    found["k-means on position"] = position_clusters(settings.regions, seed=settings.seed)
    return compare(photos, list(prepared.masks(places)[0]), found)


def _sheet(config: Config, prepared: PreparedFaces, places: NDArray[np.int64], out: Path) -> Picture:
    """The same faces with the soft maps of the first run."""
    path, data = out / "examples" / "sheet.png", config.data
    images = to_images(prepared.photos[places], data.mean, data.std)
    draw_run_heatmaps(load_model(config.output)[0].online, images, path, mean=data.mean, std=data.std, title="FRA")
    alt = f"{len(places)} synthetic faces, the regions found in them, and the map of each region"
    return Picture(path, alt, "Pictures that the network has not seen.")


def _facts(configs: Mapping[str, Config], prepared: PreparedFaces, seconds: float) -> list[tuple[str, str]]:
    config = next(iter(configs.values()))
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    found = versions(device)
    steps, batch = config.train.steps or 0, config.train.global_batch
    tested = len(prepared.places("test"))
    packages = ("torch", "deepspeed", "nvidia-dali-cuda130", "webdataset")
    return [
        ("pre-training", f"{len(configs)} runs of {steps} steps with {batch} faces each, two views a face"),
        ("network", f"{config.model.backbone}, {config.data.image_size} px, {config.model.regions} regions"),
        (
            "measured on",
            f"{tested} of {len(prepared)} pictures that no run has seen; readers and k-means have the others",
        ),
        ("time", f"{seconds:.0f} s in all"),
        ("device", str(found["device"])),
        ("versions", ", ".join(f"{name} {found[name]}" for name in packages)),
    ]
