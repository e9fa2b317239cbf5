"""What a launcher starts: the trainer's command line and the run folder."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from fra_dist.config import Config, dump_config, load_config
from fra_dist.data.shard_patterns import absolute_sets
from fra_dist.errors import LaunchError


@dataclass(frozen=True)
class Launch:
    """`trainer` is the command of one rank, without its rank environment. `max_failures`: in a row, without a newer
    checkpoint in between."""

    run: Path
    trainer: tuple[str, ...]
    max_failures: int = 3

    @property
    def folder(self) -> Path:
        """RUN/launch: what launchers write."""
        return self.run / "launch"


def prepare_launch(config: str, overrides: Sequence[str], max_failures: int = 3, write: bool = True) -> Launch:
    """Resolve the configuration once, keep it as RUN/launch/config.yaml, and name the command that trains with it.

    Later edits of `config` do not reach restarts. Raises ConfigError, or LaunchError when the folder cannot be written.
    """
    resolved = absolute(load_config(config, overrides))
    run = Path(resolved.output)
    kept = run / "launch" / "config.yaml"
    if not write:
        return Launch(run, trainer_command(kept), max_failures)
    try:
        kept.parent.mkdir(parents=True, exist_ok=True)
        partial = kept.with_suffix(".partial")
        partial.write_text(dump_config(resolved))
        partial.replace(kept)
    except OSError as error:
        raise LaunchError(f"cannot write the run folder {run}: {error.strerror}") from None
    return Launch(run, trainer_command(kept), max_failures)


def absolute(config: Config) -> Config:
    """The same run wherever it is started: `output`, `data.shards` and the folders of probes as absolute paths."""
    data = config.data.model_copy(update={"shards": absolute_sets(config.data.shards)})
    sets = tuple(one.model_copy(update={"data": _absolute(one.data)}) for one in config.probe.sets)
    probe = config.probe.model_copy(update={"sets": sets})
    return config.model_copy(update={"output": str(Path(config.output).absolute()), "data": data, "probe": probe})


def _absolute(place: str) -> str:
    return str(Path(place).absolute()) if place and "://" not in place else place


def trainer_command(config: str | Path, overrides: Sequence[str] = ()) -> tuple[str, ...]:
    """The command of one rank."""
    return (sys.executable, "-m", "fra_dist.cli.main", "pretrain", str(config), *overrides)
