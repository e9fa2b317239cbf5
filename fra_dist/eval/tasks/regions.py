"""Regions: do the parts of a face that a network finds by itself agree with true parts?

Truth: the data set's masks, or polygons drawn from its landmarks. Each way of getting regions (heatmaps; k-means on
pixel features of this network, of a random one, on position) fills one table of regions against classes over the test
part; k-means is fitted on training photos without labels. The linear probe learns the classes from single cells of the
backbone's map: ridge regression to the share of each class in a cell, then upsampled; strength by validation mIoU.
"""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from fra_dist.eval import plots
from fra_dist.eval.features.prepared_faces import MASK_SIDE
from fra_dist.eval.readers.frozen_readers import Part, Reader, Sealed, fit_ridge
from fra_dist.eval.regions.agreement import FACIAL_PARTS, IN_USE, assign
from fra_dist.eval.regions.segmenters import POSITION_IN_PARTS, Segmenter, in_parts, regions_of, segmenters
from fra_dist.eval.scores import metrics
from fra_dist.eval.scores.intervals import Floats, Score, Statistic, measure
from fra_dist.eval.tasks.common import Job, Places, TaskResult

PROBED = 1000
"""Training faces at most for the linear probe."""
BATCH = 64


def run(job: Job) -> TaskResult:
    """Raises DataError when there are neither masks nor landmarks to draw polygons from."""
    prepared, seed, draws = job.prepared, job.settings.seed, job.settings.bootstrap
    train, validation = prepared.places("train"), prepared.places("val")
    sealed = Sealed(prepared.places("test"))
    regions = regions_of(job.encoder, job.settings.regions)
    known = _spread(train, PROBED)
    masks, classes = prepared.masks(known)
    ways = segmenters(job.encoder, prepared.photos[known], regions, seed)
    informed = in_parts(list(masks), classes, regions, seed)
    if informed is not None:
        ways[POSITION_IN_PARTS] = informed
    probe = _fit_probe(job, known, masks, _spread(validation, BATCH), classes)

    test = sealed.open()
    people = prepared.people(test)
    truth = prepared.masks(test)[0]
    scores: dict[str, Score] = {}
    details: dict[str, object] = {"classes": list(classes), "regions": regions, "truth": _truth(job)}
    for name, way in ways.items():
        tables = count_tables(prepared.photos[test], truth, way, regions, len(classes))
        kinds = agreement(tables, classes, whole=name != POSITION_IN_PARTS)
        scores |= {
            f"{name}/{key}": measure(value, len(test), people, seed, draws=draws) for key, value in kinds.items()
        }
        details[name] = _detail(tables.sum(0), classes)
    answered = count_tables(
        prepared.photos[test], truth, _segment(job, probe, len(classes)), len(classes), len(classes)
    )
    scores["probe/miou"] = measure(_diagonal_iou(answered), len(test), people, seed, draws=draws)
    overlap = metrics.overlaps(answered.sum(0)).diagonal()
    details["probe"] = {"iou": dict(zip(classes, overlap.tolist(), strict=True)), "chosen": probe.chosen}
    columns = tuple(name for name in scores if name.endswith(("/nmi", "/miou", "/parts_nmi", "/parts_miou")))
    shown = {name: score.value for name, score in scores.items() if name.endswith("nmi")}
    return TaskResult("regions", _protocol(job), scores, columns, details, {"nmi.png": plots.bars(shown, "NMI")})


def count_tables(
    photos: NDArray[np.uint8], masks: NDArray[np.uint8], way: Segmenter, regions: int, classes: int
) -> NDArray[np.int64]:
    """(n, Q, L) pixels of each photo by region and class; other values of the mask do not count."""
    found = np.zeros((len(photos), regions, classes), np.int64)
    for start in range(0, len(photos), BATCH):
        some = masks[start : start + BATCH]
        regions_there = assign(way(photos[start : start + BATCH]), (some.shape[1], some.shape[2]))
        for n, (region, mask) in enumerate(zip(regions_there, some, strict=True), start):
            counted = mask < classes
            cells = region[counted] * classes + mask[counted]
            found[n] = np.bincount(cells, minlength=regions * classes).reshape(regions, classes)
    return found


def agreement(tables: NDArray[np.int64], classes: Sequence[str], whole: bool = True) -> dict[str, Statistic]:
    """NMI, ARI and mIoU of summed tables (n, Q, L), over all classes and over the facial parts only."""
    parts = [k for k, name in enumerate(classes) if name in FACIAL_PARTS]
    found: dict[str, Statistic] = {}
    for prefix, columns in (("", list(range(len(classes)))), ("parts_", parts)):
        if (whole or prefix) and len(columns) > 1:
            some = tables[:, :, columns].astype(np.float64)
            found[f"{prefix}nmi"] = _of_sum(some, metrics.normalised_mutual_information)
            found[f"{prefix}ari"] = _of_sum(some, metrics.adjusted_rand)
            found[f"{prefix}miou"] = _of_sum(some, lambda table: float(np.nanmean(metrics.match_one_to_one(table)[1])))
    return found


def _of_sum(tables: Floats, score: Callable[[metrics.Table], float]) -> Statistic:
    def statistic(weights: Floats) -> float:
        total = np.tensordot(weights, tables, 1).round().astype(np.int64)
        return score(total) if total.any() else float("nan")

    return statistic


def _diagonal_iou(tables: NDArray[np.int64]) -> Statistic:
    def score(table: metrics.Table) -> float:
        present = table.sum(0) > 0
        return float(metrics.overlaps(table).diagonal()[present].mean())

    return _of_sum(tables.astype(np.float64), score)


def class_shares(masks: NDArray[np.uint8], classes: int, side: tuple[int, int]) -> tuple[Floats, NDArray[np.bool_]]:
    """(n, M, M) masks -> (n, L, h, w) share of each class among the counted pixels of a cell, (n, h, w) any counted."""
    one_hot = torch.from_numpy(np.stack([masks == k for k in range(classes)], 1).astype(np.float32))
    shares = functional.adaptive_avg_pool2d(one_hot, side)
    total = shares.sum(1)
    return (shares / total[:, None].clamp(min=1e-6)).double().numpy(), (total > 0.25).numpy()


def _fit_probe(job: Job, train: Places, masks: NDArray[np.uint8], validation: Places, classes: Sequence[str]) -> Reader:
    photos, width = job.prepared.photos, len(classes)
    maps, held = job.encoder.maps(photos[train]), job.encoder.maps(photos[validation])
    side = (maps.shape[2], maps.shape[3])
    shares, counted = class_shares(masks, width, side)
    rows, targets = _pixels(maps)[counted.ravel()], shares.transpose(0, 2, 3, 1).reshape(-1, width)[counted.ravel()]
    truth = job.prepared.masks(validation)[0]

    def score(outputs: Floats) -> float:
        way = _raise_back(outputs, len(held), side)
        tables = count_tables(photos[validation], truth, lambda some: way[: len(some)], width, width)
        return _diagonal_iou(tables)(np.ones(len(tables)))

    return fit_ridge(Part(rows, targets), Part(_pixels(held), np.zeros(0)), score)


def _segment(job: Job, probe: Reader, classes: int) -> Segmenter:
    def way(photos: NDArray[np.uint8]) -> Tensor:
        maps = job.encoder.maps(photos)
        return _raise_back(probe.answer(_pixels(maps)), len(maps), (maps.shape[2], maps.shape[3]))

    return way


def _pixels(maps: Tensor) -> NDArray[np.float32]:
    return maps.permute(0, 2, 3, 1).reshape(-1, maps.shape[1]).numpy()


def _raise_back(outputs: Floats, count: int, side: tuple[int, int]) -> Tensor:
    return torch.from_numpy(outputs).float().reshape(count, *side, -1).permute(0, 3, 1, 2)


def _spread(places: Places, count: int) -> Places:
    return places[np.unique(np.linspace(0, len(places) - 1, min(count, len(places))).astype(np.int64))]


def _detail(table: NDArray[np.int64], classes: Sequence[str]) -> dict[str, object]:
    shares = table.sum(1) / max(table.sum(), 1)
    iou = metrics.match_one_to_one(table)[1]
    return {
        "iou": {name: None if np.isnan(value) else float(value) for name, value in zip(classes, iou, strict=True)},
        "miou_majority": float(np.nanmean(metrics.match_by_majority(table))),
        "shares": [round(float(share), 6) for share in shares],
        "in_use": int((shares >= IN_USE).sum()),
    }


def _truth(job: Job) -> str:
    return "masks" if job.prepared.faces.mask_classes else "polygons drawn from landmarks; outside the face not counted"


def _protocol(job: Job) -> dict[str, object]:
    return {
        "truth": _truth(job),
        "pixels": f"{MASK_SIDE} by {MASK_SIDE}, similarities upsampled bilinearly, the largest wins",
        "parts": "the pixels of brows, eyes, nose and mouth only",
        "miou": "one region for each class, Hungarian matching",
        "k-means": "fitted on training photos, no labels; position_in_parts is told where training masks have parts",
        "probe": f"ridge from cells of the map; {PROBED} training, {BATCH} validation faces at most; strength by mIoU",
        "test": "opened once, after all fits",
    }
