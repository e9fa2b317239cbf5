"""Every setting of a run, with the published FRA values as defaults.

Sections are frozen and strict: an unknown key, a wrong type or a value out of range is refused by `load.py`
before anything starts. Sizes are in pixels, times in the unit that the name says.
"""

from typing import Annotated, Self

from pydantic import Field, model_validator

from fra_dist.config.inputs import DataConfig
from fra_dist.config.method import LossConfig, ModelConfig
from fra_dist.config.section import (
    Place,
    Section,
    Seed,
)
from fra_dist.config.training import CheckpointConfig, GuardConfig, OptimConfig, TrainConfig
from fra_dist.config.watching import AlarmConfig, LogConfig, ProbeConfig


class Config(Section):
    """All settings of a run; what is left out has the published value."""

    name: str = "fra"
    """Name of the run in pictures, curves, tables and the progress bar."""
    output: Annotated[Place, Field(min_length=1)] = "runs/fra"
    """The run folder: settings, metrics, pictures and checkpoints are written there."""
    seed: Seed = 0
    """Number that all random draws follow from: initial weights, the order of samples, views and dropout."""
    data: DataConfig = DataConfig()
    """What a run reads, and how photos become views."""
    model: ModelConfig = ModelConfig()
    """Architecture and size of the networks."""
    loss: LossConfig = LossConfig()
    """The terms of the loss and their weights."""
    optim: OptimConfig = OptimConfig()
    """The optimiser, its schedules, and the target network's momentum."""
    train: TrainConfig = TrainConfig()
    """Batch, length, precision and device of the training."""
    checkpoint: CheckpointConfig = CheckpointConfig()
    """When checkpoints are written, and which of them are kept."""
    guard: GuardConfig = GuardConfig()
    """What to do about steps that went wrong."""
    log: LogConfig = LogConfig()
    """What is written down during the run, and how often."""
    probe: ProbeConfig = ProbeConfig()
    """Scores on labelled faces, measured during the run."""
    alarm: AlarmConfig = AlarmConfig()
    """Signs of collapse that are looked for during the run."""

    @model_validator(mode="after")
    def _together(self) -> Self:
        if self.model.decoder is None and (self.loss.local > 0 or self.loss.relation > 0):
            raise ValueError("model.decoder is null (plain BYOL): set loss.local=0 and loss.relation=0 as well")
        self._pixels_are_trained()
        best, saved, probed = self.checkpoint.keep_best or "", self.checkpoint.every_steps, self.probe.every_steps
        if best.startswith("probe/") and (not probed or (saved % probed and probed % saved)):
            raise ValueError(
                f"checkpoint.keep_best={best} needs scores at steps that are saved: of checkpoint.every_steps "
                f"({saved}) and probe.every_steps ({probed}) one must be a multiple of the other"
            )
        return self

    def _pixels_are_trained(self) -> None:
        """A weight that no term trains would stop data-parallel training at its second step."""
        model, wanted = self.model, self.loss.correspondence > 0
        if wanted and not model.has_pixel_head:
            raise ValueError("loss.correspondence compares pixels: without model.decoder set model.pixel_head=true")
        if model.pixel_head and model.decoder is None and not wanted:
            raise ValueError(
                "model.pixel_head is trained by loss.correspondence alone: set that above 0, or it to false"
            )
        if model.detach_pooling and model.detach_relation and not wanted:
            raise ValueError(
                "model.detach_pooling and model.detach_relation leave pixel projections untrained: set "
                "loss.correspondence above 0, or one of them to false"
            )
