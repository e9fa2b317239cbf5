"""Regions of a network against true parts, without intervals, baselines or a probe: for looking during training."""

from collections.abc import Callable
from typing import cast

import numpy as np

from fra_dist.eval.regions.segmenters import Segmenter, clustered, regions_of
from fra_dist.eval.tasks.common import Job
from fra_dist.eval.tasks.regions import BATCH, agreement, count_tables

FITTED_ON = 64
"""Training faces whose pixels k-means sees, for a network without heatmaps."""


def quick_regions(job: Job, check: Callable[[], None] = lambda: None) -> dict[str, float]:
    """NMI, ARI and mIoU over all classes and (parts_) over facial parts, of the test part: of the heatmaps, or of
    k-means on the pixel features of a network without a decoder. `check` is called between batches."""
    prepared, encoder = job.prepared, job.encoder
    test = prepared.places("test")
    masks, classes = prepared.masks(test)
    regions = regions_of(encoder, job.settings.regions)
    kind, way = "heatmaps", cast(Segmenter, encoder.similarity)
    if not encoder.has_regions:
        some = prepared.photos[prepared.places("train")[:FITTED_ON]]
        kind, way = "clusters", clustered(encoder, some, regions, job.settings.seed)
    tables = []
    for start in range(0, len(test), BATCH):
        check()
        photos, truth = prepared.photos[test[start : start + BATCH]], masks[start : start + BATCH]
        tables.append(count_tables(photos, truth, way, regions, len(classes)))
    counted = np.concatenate(tables)
    ones = np.ones(len(counted))
    return {f"{kind}_{name}": statistic(ones) for name, statistic in agreement(counted, classes).items()}
