"""Metrics for Weights & Biases; only this module imports wandb."""

import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from fra_dist.errors import ConfigError
from fra_dist.files import exists, raw_text
from fra_dist.train.sinks.sink import Row

INSTALL = 'log.wandb needs wandb: pip install "fra-dist[wandb]", in a checkout: .venv/bin/uv pip install wandb'


class WandbRun:
    """One W&B run a run folder: a resumed run continues it. Offline runs lie in RUN/wandb, for `wandb sync`."""

    def __init__(
        self, folder: Path, name: str, mode: Literal["online", "offline"], project: str, config: Mapping[str, Any]
    ) -> None:
        """Begin, or resume, the W&B run of a run folder. Raises ConfigError when wandb is not installed."""
        try:
            import wandb
        except ImportError:
            raise ConfigError(INSTALL) from None
        known = folder / "wandb" / "id"
        known.parent.mkdir(parents=True, exist_ok=True)
        if not exists(known):
            known.write_text(secrets.token_hex(4))
        self._run = wandb.init(
            project=project,
            name=name,
            id=raw_text(known).strip(),
            resume="allow",
            mode=mode,
            dir=str(folder),
            config=dict(config),
            settings=wandb.Settings(console="off", silent=True),
        )
        self._run.define_metric("step", hidden=True)
        self._run.define_metric("*", step_metric="step")

    def write(self, step: int, row: Row) -> None:
        """Log a row; `step` is a value of its own, since a run that went back writes steps twice."""
        self._run.log({"step": step, **{name: value for name, value in row.items() if value is not None}})

    def close(self) -> None:
        """Finish, and with mode online upload the rest."""
        self._run.finish()
