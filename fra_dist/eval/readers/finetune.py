"""One trainer for all heads: the backbone and a head on its map, trained on the faces of a prepared set.

Faces are turned, scaled, moved and mirrored a little at every step, on the device; landmarks follow.
"""

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from fra_dist.eval.features.encoder import Encoder
from fra_dist.eval.features.prepared_faces import PreparedFaces
from fra_dist.eval.settings import TuneSettings
from fra_dist.train.optim.schedule import learning_rate

Places = NDArray[np.int64]
Outputs = NDArray[np.float64]
TURN, GROW, MOVE = math.radians(12), 0.12, 0.04
"""Largest angle, logarithm of the scale, and shift as a share of the side, of a training step's transform of a face."""


@dataclass(frozen=True)
class Goal:
    """What fine-tuning learns: a head, its targets, the loss of a batch, and the score that chooses the epoch."""

    head: nn.Module
    """The head on the backbone's map."""
    targets: Tensor
    """(N, ...) targets of all faces of the set; rows of the test part are never read."""
    loss: Callable[[Tensor, Tensor], Tensor]
    """The loss of a batch, from the head's outputs and the targets."""
    score: Callable[[Outputs], float]
    """The score of the validation part, from what `read` gives; larger is better."""
    read: Callable[[Tensor], Tensor] = lambda outputs: outputs
    """Turns the head's outputs into what is scored."""
    mirror: NDArray[np.int64] | None = None
    """(P,) order of landmarks in a mirrored face, when the targets are places (N, P, 2), which then follow the face."""


def fine_tune(
    encoder: Encoder,
    prepared: PreparedFaces,
    goal: Goal,
    train: Places,
    validation: Places,
    settings: TuneSettings,
    seed: int,
) -> Callable[[Places], Outputs]:
    """Train the backbone and the head of `goal` on the training faces.

    Returns a function that gives the outputs for the faces at some places, by the weights of the epoch with the best
    validation score.
    """
    device = encoder.device
    backbone = copy.deepcopy(encoder.backbone).requires_grad_(True)
    model = nn.Sequential(backbone, goal.head.to(device))
    generator = torch.Generator().manual_seed(seed)
    decayed = [p for p in model.parameters() if p.dim() > 1]
    others = [p for p in model.parameters() if p.dim() <= 1]
    groups = [{"params": decayed, "weight_decay": settings.weight_decay}, {"params": others, "weight_decay": 0.0}]
    optimiser = torch.optim.AdamW(groups, lr=settings.lr)
    batches = max(1, round(len(train) / settings.batch))
    total, warm = settings.epochs * batches, min(settings.warmup_epochs, settings.epochs // 2) * batches
    best, kept, since = -math.inf, copy.deepcopy(model.state_dict()), 0
    for epoch in range(settings.epochs):
        model.train()
        order = train[torch.randperm(len(train), generator=generator).numpy()]
        for k, some in enumerate(np.array_split(order, batches)):
            for group in optimiser.param_groups:
                group["lr"] = learning_rate(epoch * batches + k, total, warm, settings.lr)
            _step(model, optimiser, encoder, prepared, goal, some, generator)
        found = goal.score(_answer(model, encoder, prepared, goal, validation))
        if found > best:
            best, kept, since = found, copy.deepcopy(model.state_dict()), 0
        else:
            since += 1
        if settings.patience is not None and since >= settings.patience:
            break
    model.load_state_dict(kept)
    return lambda places: _answer(model, encoder, prepared, goal, places)


def _step(
    model: nn.Module,
    optimiser: torch.optim.Optimizer,
    encoder: Encoder,
    prepared: PreparedFaces,
    goal: Goal,
    places: Places,
    generator: torch.Generator,
) -> None:
    if len(places) == 1:
        places = np.repeat(places, 2)  # batch norm needs two
    images = encoder.pixels(prepared.photos[np.sort(places)])
    targets = goal.targets[torch.from_numpy(np.sort(places))].to(images.device)
    transform, mirrored = draw_transforms(len(images), generator)
    images = warp(images, transform)
    if goal.mirror is not None:
        targets = transform_points(targets, transform, mirrored, goal.mirror)
    loss = goal.loss(model(images), targets)
    optimiser.zero_grad()
    loss.backward()  # type: ignore[no-untyped-call]
    optimiser.step()


@torch.no_grad()
def _answer(model: nn.Module, encoder: Encoder, prepared: PreparedFaces, goal: Goal, places: Places) -> Outputs:
    model.eval()
    parts = [places[start : start + 128] for start in range(0, len(places), 128)]
    found = [goal.read(model(encoder.pixels(prepared.photos[some]))).double().cpu() for some in parts]
    return torch.cat(found).numpy()


def draw_transforms(count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Random transforms (count, 2, 3) from places of the new picture to those of the old, and (count,) whether it is
    mirrored.

    Places are in [-1, 1].
    """
    u = torch.rand(count, 5, generator=generator) * 2 - 1
    mirrored = u[:, 4] > 0
    angle, scale = u[:, 0] * TURN, torch.exp(u[:, 1] * GROW)
    sign = torch.where(mirrored, -1.0, 1.0)
    rows = [
        torch.stack([scale * angle.cos() * sign, -scale * angle.sin(), 2 * MOVE * u[:, 2]], -1),
        torch.stack([scale * angle.sin() * sign, scale * angle.cos(), 2 * MOVE * u[:, 3]], -1),
    ]
    return torch.stack(rows, 1), mirrored


def warp(images: Tensor, transform: Tensor) -> Tensor:
    """Images (B, 3, S, S) seen through transforms (B, 2, 3); the edge is repeated outside."""
    grid = functional.affine_grid(transform.to(images), list(images.shape), align_corners=False)
    return functional.grid_sample(images, grid, padding_mode="border", align_corners=False)


def transform_points(points: Tensor, transform: Tensor, mirrored: Tensor, order: NDArray[np.int64]) -> Tensor:
    """Points (B, P, 2), as shares of the side in the old picture, where they are in the new one.

    Left and right are swapped, by `order`, where `mirrored` is set.
    """
    matrix, shift = transform[:, :, :2].to(points), transform[:, :, 2].to(points)
    places = torch.linalg.solve(matrix, (2 * points - 1 - shift[:, None]).transpose(1, 2)).transpose(1, 2)
    swapped = places[:, torch.from_numpy(order).to(places.device)]
    places = torch.where(mirrored.to(places.device)[:, None, None], swapped, places)
    return (places + 1) / 2
