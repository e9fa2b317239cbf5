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
from numpy.typing import NDArray
from torch import Tensor

from fra_dist.config import Config
from fra_dist.eval.features.quick_features import Features, extract
from fra_dist.eval.labelled import Labelled
from fra_dist.eval.readers.linear_probes import (
    Labels,
    Split,
    linear_classifier,
    linear_probe,
    nearest_neighbours,
    split_by,
    split_within,
)
from fra_dist.eval.regions.agreement import (
    RegionScores,
    feature_clusters,
    part_density,
    position_clusters,
    score_similarity,
)
from fra_dist.eval.scores import metrics
from fra_dist.models.fra import FRANetwork

HEATMAPS, CLUSTERS, POSITION, POSITION_IN_PARTS = "heatmaps", "clusters", "position", "position_in_parts"


@dataclass(frozen=True)
class Scores:
    """What was measured of one network, or of guessing."""

    name: str
    regions: dict[str, RegionScores]
    """By how the regions came about: HEATMAPS, CLUSTERS, POSITION or POSITION_IN_PARTS."""
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
    return Scores(name, found, probe_all(features, labelled, seed))


def regions_of(network: FRANetwork, labelled: Labelled, config: Config, seed: int = 0) -> Tensor:
    """(N, Q, H, W) similarities as `evaluate` scores them: of the heatmaps or, without a decoder, of k-means."""
    features = extract(network, labelled.photos, config.data.mean, config.data.std)
    if features.similarity is not None:
        return features.similarity
    return feature_clusters(features.maps, config.model.regions, seed)


def floors(labelled: Labelled, regions: int = 8, seed: int = 0) -> Scores:
    """What needs no network: k-means on position, the most frequent class, the mean face.

    POSITION_IN_PARTS is told where brows, eyes, noses and mouths lie on average: compare it over the parts only.
    """
    found: dict[str, RegionScores] = {}
    if labelled.masks is not None:
        weights = {POSITION: None, POSITION_IN_PARTS: part_density(labelled.masks)}
        for kind, weight in weights.items():
            if weight is None or np.count_nonzero(weight) >= regions:
                similarity = position_clusters(regions, weight, seed=seed).expand(len(labelled), -1, -1, -1)
                found[kind] = score_similarity(similarity, labelled.masks)
    return Scores("guess", found, probe_all(None, labelled, seed))


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
