"""Metrics as one table, RUN/metrics.csv, for a spreadsheet."""

import csv
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path

from fra_dist.files import whole_file
from fra_dist.json_lines import iterate, step_of_row
from fra_dist.train.sinks.sink import Row


class CsvFile:
    """Writes all rows of metrics.jsonl as a table at the end of an attempt, a line a step.

    Names appear while a run trains (probes), so a table that grows line by line could not have its columns.
    """

    def __init__(self, rows: Path, path: Path) -> None:
        """Read from `rows`, metrics.jsonl, and write to `path`."""
        self.rows, self.path = rows, path

    def write(self, step: int, row: Row) -> None:
        """Do nothing: metrics.jsonl has the row already."""

    def close(self) -> None:
        """Write the table of all rows so far, a line a step. Raises OSError when it cannot be written.

        The rows are read twice, so that memory does not grow with them. Rows without a step are left out.
        """
        columns = dict.fromkeys(["step", *(name for row in self._steps() for name in row)])
        with whole_file(self.path) as partial, partial.open("w", encoding="utf-8", newline="") as stream:
            table = csv.DictWriter(stream, columns, lineterminator="\n")
            table.writeheader()
            table.writerows(self._steps())

    def _steps(self) -> Iterator[Row]:
        """The rows of each step as one."""
        for step, rows in groupby(iterate(self.rows), key=step_of_row):
            if step is not None:
                yield {name: value for row in rows for name, value in row.items()}
