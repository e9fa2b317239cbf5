"""Metrics for Prometheus: http://HOST:PORT/metrics; only this module imports prometheus_client."""

import time
from collections.abc import Callable

from prometheus_client import CollectorRegistry, Gauge, start_http_server

from fra_dist.errors import LaunchError
from fra_dist.train.sinks.sink import Row

_PLAIN = {
    "images_per_second": ("images_per_second", "Images trained on each second, over all ranks", 1.0),
    "data_wait": ("data_wait_ratio", "Share of the time spent waiting for data", 1.0),
    "seconds_left": ("seconds_left", "Seconds to the last step at the present speed", 1.0),
    "memory_mib": ("memory_bytes", "Memory of rank 0, on a GPU the most that torch has held there", 2.0**20),
    "speed/mfu": ("mfu_ratio", "FLOP of the model each second as a share of the GPUs' peak", 1.0),
    "quarantined": ("quarantined_samples", "Samples that cannot be decoded", 1.0),
}
"""Name in a row -> (name, help, factor) of the gauge."""


class Prometheus:
    """An HTTP server from which Prometheus reads the newest metrics of a run."""

    def __init__(
        self, port: int, host: str, total_steps: int, restarts: int, saved_at: Callable[[], float | None]
    ) -> None:
        """Open the port. `saved_at` gives the time of the newest checkpoint, seconds since 1970; None before the first.

        Raises LaunchError when the port cannot be opened.
        """
        self._registry = CollectorRegistry()
        self._gauges: dict[str, Gauge] = {}
        self._gauge("total_steps", "Steps of the whole run").set(total_steps)
        self._gauge("restarts", "Attempts of this run before the present one").set(restarts)
        begun = time.time()
        age = self._gauge(
            "checkpoint_age_seconds", "Seconds since the newest checkpoint, or since the start without one"
        )
        age.set_function(lambda: max(time.time() - (saved_at() or begun), 0.0))
        try:
            self._server, self._thread = start_http_server(port, host, registry=self._registry)
        except OSError as error:
            raise LaunchError(
                f"log.metrics_port={port} cannot be opened on {host} ({error.strerror or error}): give another port"
            ) from None
        self.port = int(self._server.server_port)

    def write(self, step: int, row: Row) -> None:
        """Replace the values that are served by those of a row of `step`; those that are None stay."""
        self._gauge("step", "Completed steps").set(step)
        for name, value in row.items():
            if value is None:
                continue
            if name in _PLAIN:
                known, text, factor = _PLAIN[name]
                self._gauge(known, text).set(value * factor)
            elif name.startswith("loss/"):
                self._gauge("loss", "Terms of the loss", "term").labels(name.removeprefix("loss/")).set(value)
            elif name.startswith("probe/"):
                self._gauge("probe", "Scores on labelled faces", "score").labels(name.removeprefix("probe/")).set(value)

    def close(self) -> None:
        """Stop the server and close its port."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(5.0)

    def _gauge(self, name: str, text: str, *labels: str) -> Gauge:
        if name not in self._gauges:
            self._gauges[name] = Gauge(f"fra_dist_{name}", text, labels, registry=self._registry)
        return self._gauges[name]
