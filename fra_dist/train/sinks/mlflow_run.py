"""Metrics for MLflow; only this module imports mlflow."""

import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fra_dist.errors import ConfigError
from fra_dist.files import exists, raw_text
from fra_dist.train.sinks.sink import Row

INSTALL = (
    'log.mlflow needs mlflow-skinny: pip install "fra-dist[mlflow]", in a checkout: '
    ".venv/bin/uv pip install mlflow-skinny"
)
_FORBIDDEN = str.maketrans({"@": "-", "%": "-", "+": "-"})


class MlflowRun:
    """One MLflow run a run folder, in a store that is a folder or a server."""

    def __init__(self, folder: Path, name: str, store: str, settings: Mapping[str, Any]) -> None:
        """Begin, or resume, the MLflow run of a run folder, with `settings` (flat) as its parameters.

        Raises ConfigError when mlflow is not installed.
        """
        os.environ.setdefault("MLFLOW_ALLOW_FILE_STORE", "true")  # newer versions discourage folders
        try:
            from mlflow.entities import Metric, Param
            from mlflow.tracking import MlflowClient
        except ImportError:
            raise ConfigError(INSTALL) from None
        self._metric = Metric
        uri = store if "://" in store else Path(store).absolute().as_uri()
        self._client = MlflowClient(tracking_uri=uri)
        known = folder / "mlflow.run"
        if exists(known):
            self._id = raw_text(known).strip()
            return
        experiment = self._client.get_experiment_by_name("fra_dist")
        where = experiment.experiment_id if experiment else self._client.create_experiment("fra_dist")
        self._id = self._client.create_run(where, run_name=name).info.run_id
        known.write_text(self._id)
        flat = [Param(key, str(value)[:500]) for key, value in settings.items()]
        for at in range(0, len(flat), 100):
            self._client.log_batch(self._id, params=flat[at : at + 100])

    def write(self, step: int, row: Row) -> None:
        """Log the values of a row to the MLflow run, as metrics of `step`; those that are None are left out."""
        now = int(time.time() * 1000)
        values = [
            self._metric(name.translate(_FORBIDDEN), float(value), now, step)
            for name, value in row.items()
            if value is not None and name != "step"
        ]
        self._client.log_batch(self._id, metrics=values)

    def close(self) -> None:
        """Mark the run as finished; a resumed run continues it all the same."""
        self._client.set_terminated(self._id)
