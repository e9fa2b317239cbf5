"""The metric of `checkpoint.keep_best`: whether rows of metrics.jsonl will have one of that name. Imports no torch.

The names of a run follow from its configuration, but for the metrics that terms of `loss.extra` report beside
themselves and those of the place that shards are fetched from (`source/NAME`); of labelled faces it is known which
scores a task may have, not which of them their labels allow. What is not known beforehand is looked for in the first
row that should have it.
"""

import difflib
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from fra_dist.config import Config
from fra_dist.config.extensions import short_name
from fra_dist.errors import ConfigError

PROBE_SECONDS = "probe/seconds"
"""The metric that every row with scores of labelled faces has."""
_REGION_SCORES = tuple(f"{part}{score}" for part in ("", "parts_") for score in ("nmi", "ari", "miou"))
_SCORES = {
    "expression": ("linear_accuracy", "linear_balanced", "knn_accuracy", "knn_balanced"),
    "attributes": ("linear_accuracy", "linear_balanced", "linear_auc", "linear_age_mae"),
    "alignment": ("linear_mae_of_side", "linear_nme_inter_ocular", "linear_nme_inter_pupil", "linear_nme_diagonal"),
    "regions": tuple(f"{way}_{score}" for way in ("heatmaps", "clusters") for score in _REGION_SCORES),
}
"""The scores that a task may have, by task."""
_ALWAYS = (
    *("loss/total", "loss/global", "loss/global_12", "loss/global_21", "embedding/spread", "embedding/rank"),
    *("step/applied", "gradient/norm", "lr", "ema_momentum", "quarantined"),
    *("images_per_second", "data_wait", "seconds_left", "memory_mib", "speed/tflops", "speed/mfu"),
)
_OF_DECODER = (
    *("loss/local", "loss/local_12", "loss/local_21", "loss/decorrelation", "loss/relation", "loss/cross_entropy"),
    *("loss/entropy_gap", "loss/relation_ratio", "queries/cosine", "regions/similarity_spread", "regions/overlap"),
    *("regions/min_share", "regions/in_use"),
)
_NEAR = 3


def known_metrics(config: Config) -> list[str]:
    """The names that rows of metrics.jsonl may have in a run, as far as its configuration tells them."""
    return list(_names(config))


def refuse_unknown_metric(config: Config) -> None:
    """Raise ConfigError, which names the nearest ones, when no row of the run will have the metric of keep_best."""
    name = config.checkpoint.keep_best
    if name is None or name.startswith("source/") or (config.loss.extra and not name.startswith("probe/")):
        return
    known = known_metrics(config)
    if name not in known:
        raise ConfigError(f"checkpoint.keep_best={name}: no metric of this run is called so; {_nearest(name, known)}")


def missing_metric(name: str, row: Mapping[str, Any]) -> str | None:
    """What to tell people of a row that lacks the metric of keep_best; None for one that has it.

    None also for a row that need not have it: of a step that was left out, or without scores of labelled faces.
    """
    whole = PROBE_SECONDS if name.startswith("probe/") else "loss/total"
    if name in row or whole not in row:
        return None
    return (
        f"checkpoint.keep_best={name}: the row of step {row['step']} has no metric of that name, and no checkpoint is "
        f"kept as the best without it; {_nearest(name, [other for other in row if other != 'step'])}"
    )


def _names(config: Config) -> Iterator[str]:
    model, loss = config.model, config.loss
    yield from _ALWAYS
    crops = config.data.local_views > 0
    if crops:
        yield "loss/global_crops"
    if model.decoder is not None:
        yield from _OF_DECODER
        yield from ("loss/local_crops",) * crops
        yield from ("regions/matched",) * (loss.match == "present")
    if loss.correspondence:
        yield from ("loss/correspondence", "loss/correspondence_ratio")
    if loss.correspondence or (model.decoder is not None and loss.relation_match == "geometry"):
        yield "views/overlap"
    if model.revive_dead:
        yield "regions/revived"
    if config.log.gradient_noise:
        yield "gradient/noise_scale"
    yield from (f"loss/{short_name(name)}" for name in loss.extra)
    if config.probe.every_steps:
        yield PROBE_SECONDS
        for one in config.probe.sets:
            yield from (f"probe/{one.title}/{task}/{score}" for task in one.tasks or _SCORES for score in _SCORES[task])


def _nearest(name: str, known: Iterable[str]) -> str:
    known = list(known)
    near = difflib.get_close_matches(name, known, _NEAR, 0.6)
    return f"did you mean {' or '.join(near)}?" if near else f"it has {', '.join(known)}"
