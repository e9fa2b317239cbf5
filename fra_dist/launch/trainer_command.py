"""What a launcher starts: the trainer's command line, and the run folder with the resolved configuration."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from fra_dist import files
from fra_dist.config import Config, dump_config, load_config
from fra_dist.data.shards.shard_patterns import absolute_sets
from fra_dist.errors import LaunchError
from fra_dist.layouts.shipped_weights import shipped_weights


@dataclass(frozen=True)
class Launch:
    """What a launcher is asked to run: the run folder, one rank's command, and how many failures it may have."""

    run: Path
    """The run folder."""
    trainer: tuple[str, ...]
    """The command of one rank, without its rank environment."""
    max_failures: int = 3
    """How many attempts in a row may fail without a newer checkpoint."""

    @property
    def folder(self) -> Path:
        """RUN/launch, the folder for what launchers write."""
        return self.run / "launch"


def prepare_launch(config: str, overrides: Sequence[str], max_failures: int = 3, write: bool = True) -> Launch:
    """Resolve the configuration once, keep it as RUN/launch/config.yaml, and name the command that trains with it.

    Later edits of `config` do not reach restarts. Without `write` nothing is written. Raises ConfigError, or
    LaunchError or DiskError when the folder cannot be written.
    """
    resolved = absolute(load_config(config, overrides))
    run = Path(resolved.output)
    kept = run / "launch" / "config.yaml"
    if not write:
        return Launch(run, trainer_command(kept), max_failures)
    try:
        files.make_folder(kept.parent)
        files.write_whole(kept, dump_config(resolved))
    except OSError as error:
        raise files.failure(error, f"cannot write the run folder {run}", LaunchError) from None
    return Launch(run, trainer_command(kept), max_failures)


def absolute(config: Config) -> Config:
    """Make every place in it absolute, so that a run can be started anywhere.

    `model.init` stays where it names weights of the package, and no path of that name is there.
    """
    photos = _absolute(config.data.photos)
    data = config.data.model_copy(update={"shards": absolute_sets(config.data.shards), "photos": photos})
    init = config.model.init
    named = init in shipped_weights() and not files.exists(Path(init))
    model = config.model if named else config.model.model_copy(update={"init": _absolute(init)})
    sets = tuple(one.model_copy(update={"data": _absolute(one.data)}) for one in config.probe.sets)
    probe = config.probe.model_copy(update={"sets": sets})
    log = config.log.model_copy(update={"mlflow": _absolute(config.log.mlflow)})
    output = str(Path(config.output).absolute())
    changed = {"output": output, "data": data, "model": model, "probe": probe, "log": log}
    return config.model_copy(update=changed)


def _absolute(place: str) -> str:
    return str(Path(place).absolute()) if place and "://" not in place else place


def trainer_command(config: str | Path, overrides: Sequence[str] = ()) -> tuple[str, ...]:
    """Return the command that runs one rank of a run with the given configuration file and overrides."""
    return (sys.executable, "-m", "fra_dist.cli.main", "pretrain", str(config), *overrides)
