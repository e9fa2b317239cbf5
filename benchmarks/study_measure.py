"""What the study measures of a network, by the tasks of `fra-dist eval`; and the networks that nobody trained.

Scores are named SET/SCORE-OF-THE-TASK, for example `landmarks68/linear/100%/mae_of_side`.
"""

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

from fra_dist.eval.encoder import Encoder
from fra_dist.eval.feature_cache import Cache
from fra_dist.eval.results import run_task
from fra_dist.eval.settings import Settings, TaskEntry

TASKS: dict[str, tuple[str, str, dict[str, object]]] = {
    "landmarks68": ("alignment", "landmarks68", {"labels": (10, 100), "modes": ("linear",)}),
    "attributes": ("attributes", "attributes", {"labels": (1, 10, 100), "modes": ("linear",)}),
    "expression": ("expression", "expression", {"labels": (10, 100), "modes": ("linear", "knn")}),
    "regions": ("regions", "regions", {}),
    "following": ("consistency", "landmarks68", {}),
}
"""Name of the scores -> task, data set, settings."""
WITHOUT_MAPS = ("landmarks68", "attributes", "expression")
LEFT_OUT = ("fr@", "auc@", "random_clusters/", "nme_inter_pupil", "nme_diagonal")


def measure(
    encoder: Encoder, sets: Mapping[str, Path], cache: Path, labels: Sequence[float] | None, only: Collection[str] = ()
) -> dict[str, float]:
    """Scores by name, of the tasks in `only` or of all. Features are removed from the cache again: they are used once.

    labels: percent, instead of those of TASKS. Raises DataError.
    """
    scores: dict[str, float] = {}
    for name, (task, data, settings) in TASKS.items():
        if only and name not in only:
            continue
        told = Settings.model_validate({**settings, **({"labels": labels} if labels else {})})
        entry = TaskEntry(task=task, dataset="csv", data=str(sets[data]), settings=told)  # type: ignore[arg-type]
        result, _ = run_task(encoder, entry, Cache(cache))
        scores |= {
            f"{name}/{key}": round(score.value, 6)
            for key, score in result.scores.items()
            if not any(word in key for word in LEFT_OUT)
        }
    for folder in cache.glob("features-*"):
        for path in folder.iterdir():
            path.unlink()
        folder.rmdir()
    return scores


class GreyPixels(nn.Module):
    """A face as 32×32 grey pixels, which linear readers read as features: what needs no network."""

    out_channels = 32 * 32

    def __init__(self) -> None:
        super().__init__()
        self.weights = nn.Parameter(torch.tensor([0.299, 0.587, 0.114]), requires_grad=False)

    def forward(self, images: Tensor) -> Tensor:
        grey = torch.einsum("bchw,c->bhw", images, self.weights)[:, None]
        return functional.adaptive_avg_pool2d(grey, 32).flatten(1)[:, :, None, None]


def grey_pixels(size: int) -> Encoder:
    return Encoder("grey pixels", GreyPixels().eval(), size, [0.5] * 3, [0.25] * 3)
