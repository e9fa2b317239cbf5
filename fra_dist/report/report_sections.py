"""Sections of the report page, made from what a run and an evaluation leave behind."""

import io
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from fra_dist.files import exists, paths_in
from fra_dist.report.overlay import STRIP_TILE, Pixels, class_tile, draw_strip, resize, row_of_tiles
from fra_dist.report.page import Film, Headline, Picture


def compare(photos: Pixels, masks: Sequence[NDArray[np.uint8]], found: Mapping[str, Tensor]) -> Film:
    """A film of N photos (N, s, s, 3): their true masks if any are known, and a row of hard assignments for each of
    `found`.

    `found` maps a label to similarities (N, Q, H, W), or (1, Q, H, W) for regions that are the same in each photo.
    """
    rows = [("photo", row_of_tiles([resize(p, STRIP_TILE) for p in photos]), "The photos.")]
    if masks:
        truth = row_of_tiles([class_tile(m, STRIP_TILE) for m in masks])
        rows.append(("true parts", truth, "The true parts of the faces."))
    for label, similarity in found.items():
        each = similarity.expand(len(photos), -1, -1, -1)
        rows.append((label, draw_strip(photos, each), f"The photos with the regions of: {label}."))
    return [(label, Picture(_png(image), alt)) for label, image, alt in rows]


def stages_of(run: str | Path) -> Film:
    """A film of the strips that `run_pictures.draw_run_heatmaps` left in a run folder, photos first, then by step."""
    folder = Path(run) / "heatmaps"
    stages = []
    photos = folder / "photos.strip.png"
    if exists(photos):
        stages.append(("photos", Picture(photos, "The photos themselves.")))
    for strip in paths_in(folder, "step-*.strip.png"):
        step = int(strip.name.removeprefix("step-").split(".")[0])
        stages.append((f"step {step}", Picture(strip, f"The photos with their regions at step {step}.")))
    return stages


def headlines_of(last: Mapping[str, float], regions: int, scores: Mapping[str, Mapping[str, float]]) -> list[Headline]:
    """The demo's headlines: what training reached, regions in use, and region scores of rows by name.

    `last` is the last row of metrics: of a run with the correspondence term that is shown, of others the relation loss
    against the saddle. `scores` maps a row's name to {"nmi", "parts_nmi", "miou"}; the first row is the run itself, and
    a score is good when it is the best.
    """
    in_use = int(last["regions/in_use"])
    found = [
        _places_found(last["loss/correspondence_ratio"])
        if last.get("loss/correspondence_ratio") is not None
        else _told_apart(last["loss/relation"], regions),
        Headline("Regions in use", f"{in_use} of {regions}", "hold 1 % of the pixels or more", in_use == regions),
    ]
    for key, label in (
        ("parts_nmi", "Regions on brows, eyes, nose, mouth, NMI"),
        ("nmi", "Regions on all classes, NMI"),
        ("miou", "The same, mean IoU"),
    ):
        (_, own), *others = scores.items()
        rest = ", ".join(f"{name} {values[key]:.3f}" for name, values in others)
        found.append(Headline(label, f"{own[key]:.3f}", rest, own[key] > max(values[key] for _, values in others)))
    return found


def _places_found(ratio: float) -> Headline:
    return Headline("Correspondence at the end", f"{ratio:.2f}", "1: no pixel finds its place, 0: all do", ratio < 0.75)


def _told_apart(relation: float, regions: int) -> Headline:
    saddle = math.log(regions)
    note = f"{relation / saddle:.2f} of ln {regions} = {saddle:.2f}, where all regions look alike"
    return Headline("Relation loss at the end", f"{relation:.2f}", note, relation < 0.75 * saddle)


def _png(image: Image.Image) -> bytes:
    out = io.BytesIO()
    image.save(out, "PNG")
    return out.getvalue()
