"""Opening the sinks that a configuration asks for."""

import os
from collections.abc import Callable
from typing import Any

from fra_dist.config import Config
from fra_dist.config.logins import with_login
from fra_dist.errors import ConfigError, FraError
from fra_dist.foreign_text import without_logins
from fra_dist.train.run_dir.folder import RunFolder
from fra_dist.train.sinks.sink import Guarded, Sink


def open_sinks(config: Config, folder: RunFolder, completed: int, total_steps: int) -> list[Guarded]:
    """Open every sink that `log` names; on rank 0 only.

    Raises ConfigError for one whose package is not installed, LaunchError for a port that cannot be opened.
    """
    log, path = config.log, folder.path
    makers: dict[str, Callable[[], Sink]] = {}
    if log.tensorboard:
        from fra_dist.train.sinks.tensorboard import TensorBoard

        makers["TensorBoard"] = lambda: TensorBoard(path / "tensorboard", completed)
    if log.csv:
        from fra_dist.train.sinks.csv_file import CsvFile

        makers["metrics.csv"] = lambda: CsvFile(path / "metrics.jsonl", path / "metrics.csv")
    if log.wandb is not None:
        from fra_dist.train.sinks.wandb_run import WandbRun

        mode = log.wandb
        makers["W&B"] = lambda: WandbRun(path, config.name, mode, log.project, config.model_dump(mode="json"))
    if log.mlflow:
        from fra_dist.train.sinks.mlflow_run import MlflowRun

        store = with_login(log.mlflow)
        makers["MLflow"] = lambda: MlflowRun(path, config.name, store, flat(config.model_dump(mode="json")))
    if log.metrics_port is not None:
        from fra_dist.train.sinks.prometheus import Prometheus

        port = log.metrics_port
        makers["Prometheus"] = lambda: Prometheus(
            port, log.metrics_host, total_steps, max(folder.attempt - 1, 0), lambda: saved_at(folder)
        )
    return [Guarded(name, _made(name, make)) for name, make in makers.items()]


def _made(name: str, make: Callable[[], Sink]) -> Sink:
    try:
        return make()
    except FraError:
        raise
    except Exception as error:  # a server that refuses, a store that is damaged: loggers raise what they like
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:300]
        raise ConfigError(f"{name} cannot be opened: {without_logins(reason)}") from None


def saved_at(folder: RunFolder) -> float | None:
    """Return when the newest checkpoint was written, in seconds since 1970; None while there is none."""
    try:
        with os.scandir(folder.checkpoints) as found:
            return max((one.stat().st_mtime for one in found if one.name.startswith("step-")), default=None)
    except OSError:
        return None  # not there yet, or a disk that does not answer


def flat(tree: Any, prefix: str = "") -> dict[str, Any]:
    """Return the leaves of nested dictionaries by their dotted names."""
    if not isinstance(tree, dict):
        return {prefix: tree}
    return {
        key: value
        for name, child in tree.items()
        for key, value in flat(child, f"{prefix}.{name}" if prefix else name).items()
    }
