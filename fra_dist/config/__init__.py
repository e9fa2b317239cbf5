"""Configuration: `schema` says what there is, section by section, `load` reads it."""

from fra_dist.config.inputs import DataConfig, ViewConfig
from fra_dist.config.load import config_with, dump_config, load_config, parse_config
from fra_dist.config.method import DecoderConfig, LossConfig, ModelConfig, ReviveConfig
from fra_dist.config.schema import Config
from fra_dist.config.training import CheckpointConfig, GuardConfig, OptimConfig, TrainConfig
from fra_dist.config.watching import AlarmConfig, ProbeConfig, ProbeSet

__all__ = [
    "AlarmConfig",
    "CheckpointConfig",
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
    "config_with",
    "dump_config",
    "load_config",
    "parse_config",
]
