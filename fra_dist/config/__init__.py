"""Configuration: `schema` says what there is, `load` reads it."""

from fra_dist.config.load import dump_config, load_config, parse_config
from fra_dist.config.schema import (
    AlarmConfig,
    Config,
    DataConfig,
    DecoderConfig,
    GuardConfig,
    LossConfig,
    ModelConfig,
    OptimConfig,
    ProbeConfig,
    ProbeSet,
    ReviveConfig,
    TrainConfig,
    ViewConfig,
)

__all__ = [
    "AlarmConfig",
    "Config",
    "DataConfig",
    "DecoderConfig",
    "GuardConfig",
    "LossConfig",
    "ModelConfig",
    "OptimConfig",
    "ProbeConfig",
    "ProbeSet",
    "ReviveConfig",
    "TrainConfig",
    "ViewConfig",
    "dump_config",
    "load_config",
    "parse_config",
]
