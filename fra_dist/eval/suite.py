"""All measurements of one network on one labelled set, under fixed names.

Regions are scored with all photos. Networks with a region decoder get two sets of regions: those of their heatmaps, and
those of k-means on their backbone's pixel features; networks without one (plain BYOL) get only the latter.

| name | protocol |
|---|---|
| `expression/linear_accuracy`, `_balanced` | ridge on pooled features, people shared out over the parts |
| `expression/knn_accuracy`, `_balanced` | nearest neighbours, the same parts |
| `attributes/linear_accuracy`, `_balanced`, `_auc` | ridge, mean over the attributes that vary in train and test |
| `landmarks/linear_nme` | ridge on pooled and flattened features, inter-ocular error; smaller is better |
| `identity/knn_accuracy`, `identity/linear_accuracy` | people with 3 photos or more, their photos shared out |
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fra_dist.config import Config
from fra_dist.eval.baselines import GreyPixels
from fra_dist.eval.features.quick_features import Features, extract
from fra_dist.eval.labelled import Labelled
from fra_dist.eval.oracles import CEILING, FACE_FRAME, assign_in_frame, frame_clusters, frames_of_masks, on_map
from fra_dist.eval.readers.linear_probes import linear_classifier, linear_probe, nearest_neighbours
from fra_dist.eval.regions.agreement import (
    MASK_CLASSES,
    RegionScores,
    RegionTally,
    closeness_to,
    feature_clusters,
    part_density,
    position_clusters,
    score_similarity,
)
from fra_dist.eval.scores import metrics
from fra_dist.eval.scores.splits import Labels, Split, split_by, split_within
from fra_dist.models.fra import FRANetwork

HEATMAPS, CLUSTERS, POSITION, POSITION_IN_PARTS = "heatmaps", "clusters", "position", "position_in_parts"
RANDOM_PROTOTYPES = "random_prototypes"


@dataclass(frozen=True)
class Scores:
    """What was measured of one network, or of guessing."""

    name: str
    regions: dict[str, RegionScores]
    """By how the regions came about: HEATMAPS, CLUSTERS, RANDOM_PROTOTYPES, POSITION, POSITION_IN_PARTS, CEILING or
    FACE_FRAME."""
    probes: dict[str, float]

    def to_json(self) -> dict[str, Any]:
        """Plain values; None in place of NaN, which JSON does not have."""
        regions = {k: v.to_json() for k, v in self.regions.items()}
        return _without_nan({"name": self.name, "regions": regions, "probes": self.probes})


def evaluate(name: str, network: FRANetwork, labelled: Labelled, config: Config, seed: int = 0) -> Scores:
    """Everything that the labels allow, of a network in eval mode with the configuration that it was trained with.

    Raises RuntimeError when the network is in training mode.
    """
    features = extract(network, labelled.photos, config.data.mean, config.data.std)
    found: dict[str, RegionScores] = {}
    if labelled.masks is not None:
        if features.similarity is not None:
            found[HEATMAPS] = score_similarity(features.similarity, labelled.masks)
        found[CLUSTERS] = score_similarity(feature_clusters(features.maps, config.model.regions, seed), labelled.masks)
        generator = torch.Generator().manual_seed(seed)
        directions = torch.randn(config.model.regions, features.maps.shape[1], generator=generator)
        directions = torch.nn.functional.normalize(directions, dim=1)
        found[RANDOM_PROTOTYPES] = score_similarity(closeness_to(features.maps, directions), labelled.masks)
    return Scores(name, found, probe_all(features, labelled, seed))


def regions_of(network: FRANetwork, labelled: Labelled, config: Config, seed: int = 0) -> Tensor:
    """(N, Q, H, W) similarities as `evaluate` scores them: of the heatmaps or, without a decoder, of k-means."""
    features = extract(network, labelled.photos, config.data.mean, config.data.std)
    if features.similarity is not None:
        return features.similarity
    return feature_clusters(features.maps, config.model.regions, seed)


def pixels(labelled: Labelled, regions: int = 8, seed: int = 0) -> Scores:
    """Plain pixels by the same protocol: k-means on 32×32 colours, readers of 32×32 grey values."""
    images = torch.from_numpy(labelled.photos).permute(0, 3, 1, 2).float() / 255
    found: dict[str, RegionScores] = {}
    if labelled.masks is not None:
        colours = torch.nn.functional.adaptive_avg_pool2d(images, 32)
        found[CLUSTERS] = score_similarity(feature_clusters(colours, regions, seed), labelled.masks)
    grey = torch.cat([GreyPixels()((some - 0.5) / 0.25) for some in images.split(256)])
    return Scores("pixels", found, probe_all(Features(grey, None), labelled, seed))


def floors(labelled: Labelled, regions: int = 8, seed: int = 0, map_size: tuple[int, int] | None = None) -> Scores:
    """What needs no network: k-means on position, the most frequent class, the mean face.

    POSITION_IN_PARTS is told where brows, eyes, noses and mouths lie on average: compare it over the parts only. So is
    FACE_FRAME, for each face by itself. `map_size` (H, W) adds CEILING, the true masks at that size.
    """
    found: dict[str, RegionScores] = {}
    if labelled.masks is not None:
        weights = {POSITION: None, POSITION_IN_PARTS: part_density(labelled.masks)}
        for kind, weight in weights.items():
            if weight is None or np.count_nonzero(weight) >= regions:
                similarity = position_clusters(regions, weight, seed=seed).expand(len(labelled), -1, -1, -1)
                found[kind] = score_similarity(similarity, labelled.masks)
        if map_size is not None:
            found[CEILING] = score_similarity(
                torch.cat([on_map(mask[None], len(MASK_CLASSES), map_size) for mask in labelled.masks]), labelled.masks
            )
        told = _face_frame(labelled.masks, regions, seed)
        found |= {} if told is None else {FACE_FRAME: told}
    return Scores("guess", found, probe_all(None, labelled, seed))


def _face_frame(masks: Sequence[NDArray[np.uint8]], regions: int, seed: int) -> RegionScores | None:
    """None when there are too few facial parts. Masks are brought to one size first."""
    alike = np.stack([mask[np.ix_(*(np.arange(64) * side // 64 for side in mask.shape))] for mask in masks])
    frames = frames_of_masks(alike, MASK_CLASSES)
    centres = frame_clusters(alike, MASK_CLASSES, frames, regions, seed)
    if centres is None:
        return None
    tally = RegionTally(regions)
    tally.add(assign_in_frame(frames, centres, 64), alike)
    return tally.scores()


def probe_all(features: Features | None, labelled: Labelled, seed: int = 0) -> dict[str, float]:
    """Probes for each kind of label there is; without features, the best constant guess under the same names."""
    people = labelled.identity if labelled.identity is not None else np.arange(len(labelled))
    split = split_by(people, seed)
    found: dict[str, float] = {}
    if min(len(split.train), len(split.validation), len(split.test)) < 1:
        return {}
    if labelled.expression is not None:
        found |= _classes("expression", features, labelled.expression, split, ("linear", "knn"))
    if labelled.attributes is not None:
        found |= _attributes(features, labelled.attributes, split)
    if labelled.landmarks is not None:
        found |= _landmarks(features, labelled.landmarks, split)
    if labelled.identity is not None:
        within = split_within(labelled.identity, seed)
        if len(np.unique(labelled.identity[within.train])) >= 2:
            scored = _classes("identity", features, labelled.identity, within, ("linear", "knn"))
            found |= {name: value for name, value in scored.items() if not name.endswith("_balanced")}
    return found


def _classes(
    task: str, features: Features | None, labels: Labels, split: Split, kinds: Sequence[str]
) -> dict[str, float]:
    scores = {}
    truth = labels[split.test]
    for kind in kinds:
        if features is None:
            guess = np.full(len(truth), np.bincount(labels[split.train]).argmax())
        else:
            reader = linear_classifier if kind == "linear" else nearest_neighbours
            guess = reader(features.pooled, labels, split)
        scores[f"{task}/{kind}_accuracy"] = metrics.accuracy(guess, truth)
        scores[f"{task}/{kind}_balanced"] = metrics.balanced_accuracy(guess, truth)
    return scores


def _attributes(features: Features | None, attributes: NDArray[np.bool_], split: Split) -> dict[str, float]:
    varies = [attributes[part].any(0) & ~attributes[part].all(0) for part in (split.train, split.test)]
    truth = attributes[:, varies[0] & varies[1]]
    if not truth.shape[1]:
        return {}
    targets = np.where(truth, 1.0, -1.0)
    if features is None:
        out = np.broadcast_to(targets[split.train].mean(0), targets[split.test].shape)
    else:
        out = linear_probe(features.pooled, targets, split, lambda o, at: -float(((o - targets[at]) ** 2).mean()))
    known = truth[split.test]
    columns = range(known.shape[1])
    return {
        "attributes/linear_accuracy": metrics.accuracy(out > 0, known),
        "attributes/linear_balanced": float(
            np.mean([metrics.balanced_accuracy(out[:, k] > 0, known[:, k]) for k in columns])
        ),
        "attributes/linear_auc": float(np.mean([metrics.area_under_curve(out[:, k], known[:, k]) for k in columns])),
    }


def _landmarks(features: Features | None, landmarks: NDArray[np.float64], split: Split) -> dict[str, float]:
    targets = landmarks.reshape(len(landmarks), -1)

    def error(out: NDArray[np.float64], places: Labels) -> float:
        return metrics.normalised_mean_error(out.reshape(-1, 68, 2), landmarks[places])

    if features is None:
        out = np.broadcast_to(targets[split.train].mean(0), targets[split.test].shape)
    else:
        out = linear_probe(features.flat, targets, split, lambda o, at: -error(o, at))
    return {"landmarks/linear_nme": error(out, split.test)}


def _without_nan(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_nan(child) for key, child in value.items()}
    if isinstance(value, list):
        return [_without_nan(child) for child in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
