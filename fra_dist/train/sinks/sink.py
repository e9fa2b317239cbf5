"""What takes rows of metrics, and what happens when it fails."""

import sys
from collections.abc import Callable, Mapping
from typing import Protocol

from fra_dist.foreign_text import without_logins

Row = Mapping[str, float | int | None]
"""Values by name; None: not finite, or not measured."""


class Sink(Protocol):
    """Takes rows of metrics. Rows of steps that were taken before, before the run went back, are replaced if it can."""

    def write(self, step: int, row: Row) -> None:
        """Take the row of metrics of `step`: {name: value}, None where a value is not finite or was not measured."""
        ...

    def close(self) -> None:
        """Write what is still in memory, and close files and connections."""
        ...


class Guarded:
    """A sink whose failures never end the run: the first one is reported, and the sink is left out from then on."""

    def __init__(self, name: str, sink: Sink) -> None:
        """Guard `sink`, called `name` in the warning."""
        self.name, self._sink = name, sink
        self.failed = False

    def write(self, step: int, row: Row) -> None:
        """Pass a row on, unless an earlier one failed."""
        self._do(lambda: self._sink.write(step, row))

    def close(self) -> None:
        """Close the guarded sink; does nothing when it has failed before."""
        self._do(self._sink.close)

    def _do(self, work: Callable[[], object]) -> None:
        if self.failed:
            return
        try:
            work()
        except Exception as error:  # whatever a logger does wrong, the training is worth more
            self.failed = True
            reason = without_logins(" ".join(f"{type(error).__name__}: {error}".split()))[:200]
            print(
                f"warning: {self.name} takes no more rows ({reason}); metrics.jsonl has them",
                file=sys.stderr,
                flush=True,
            )
