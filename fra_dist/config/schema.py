"""Every setting of a run, with the published FRA values as defaults.

Sections are frozen and strict: an unknown key, a wrong type or a value out of range is refused by `load.py`
before anything starts. Sizes are in pixels, times in the unit that the name says.
"""

from typing import Self

from pydantic import model_validator

from fra_dist.config.inputs import DataConfig
from fra_dist.config.method import LossConfig, ModelConfig
from fra_dist.config.section import Section, Seed
from fra_dist.config.training import CheckpointConfig, GuardConfig, OptimConfig, TrainConfig
from fra_dist.config.watching import AlarmConfig, LogConfig, ProbeConfig


class Config(Section):
    name: str = "fra"
    output: str = "runs/fra"
    """The run folder."""
    seed: Seed = 0
    data: DataConfig = DataConfig()
    model: ModelConfig = ModelConfig()
    loss: LossConfig = LossConfig()
    optim: OptimConfig = OptimConfig()
    train: TrainConfig = TrainConfig()
    checkpoint: CheckpointConfig = CheckpointConfig()
    guard: GuardConfig = GuardConfig()
    log: LogConfig = LogConfig()
    probe: ProbeConfig = ProbeConfig()
    alarm: AlarmConfig = AlarmConfig()

    @model_validator(mode="after")
    def _together(self) -> Self:
        if self.model.decoder is None and (self.loss.local > 0 or self.loss.relation > 0):
            raise ValueError("model.decoder is null (plain BYOL): set loss.local=0 and loss.relation=0 as well")
        if self.train.cuda_graphs:
            for name in ("heatmap_temperature_end", "revive_dead"):
                if getattr(self.model, name) is not None:
                    raise ValueError(f"model.{name} changes what a step does: set train.cuda_graphs=false")
        best, saved, probed = self.checkpoint.keep_best or "", self.checkpoint.every_steps, self.probe.every_steps
        if best.startswith("probe/") and (not probed or (saved % probed and probed % saved)):
            raise ValueError(
                f"checkpoint.keep_best={best} needs scores at steps that are saved: of checkpoint.every_steps "
                f"({saved}) and probe.every_steps ({probed}) one must be a multiple of the other"
            )
        return self
