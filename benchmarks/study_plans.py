"""What the study runs: variants of a size (configs/study/variants.yaml), and plans (configs/study/plans.yaml), each a
budget of training with the variants and seeds that are run at it."""

import json
from pathlib import Path
from typing import Any

import yaml

from fra_dist.config import Config, load_config
from fra_dist.errors import ConfigError

CONFIGS = Path(__file__).parents[1] / "configs" / "study"
SIZES = ("tiny", "fpn_small", "r18", "r18_fine", "r50_fine", "r50")
UNTRAINED, PIXELS = "untrained", "grey_pixels"


def variants() -> dict[str, list[str]]:
    """Overrides of each variant, in the order of the file."""
    tree = yaml.safe_load((CONFIGS / "variants.yaml").read_text())
    return {name: [f"{key}={json.dumps(value)}" for key, value in changes.items()] for name, changes in tree.items()}


def names() -> list[str]:
    """Everything that --only takes."""
    return [*variants(), UNTRAINED, PIXELS]


def config_of(size: str, variant: str, seed: int, extra: list[str]) -> Config:
    """The configuration of a run, where `extra` comes last. Raises ConfigError."""
    return load_config(CONFIGS / f"{size}.yaml", [*variants()[variant], f"seed={seed}", *extra])


def plans() -> dict[str, dict[str, Any]]:
    """Name of each plan -> its options, as the command line has them: size, steps, part, seeds, only. Lists of variants
    that several plans share are under names that begin with a dot, which are no plans."""
    tree = yaml.safe_load((CONFIGS / "plans.yaml").read_text())
    found = {name: plan for name, plan in tree.items() if not name.startswith(".")}
    for name, plan in found.items():
        wrong = [one for one in plan["only"] if one not in names()]
        if wrong:
            raise ConfigError(f"plans.yaml: {name} has {wrong[0]!r}, which variants.yaml has not")
    return found
