"""Metrics as one table, RUN/metrics.csv, for a spreadsheet."""

import csv
import io
from pathlib import Path

from fra_dist import files
from fra_dist.json_lines import read_rows
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
        """Write the table of all rows so far, a line a step. Raises OSError when it cannot be written."""
        merged: dict[int, dict[str, object]] = {}
        for row in read_rows(self.rows):
            merged.setdefault(int(row["step"]), {}).update(row)
        columns = list(dict.fromkeys(["step", *(name for row in merged.values() for name in row)]))
        text = io.StringIO()
        table = csv.DictWriter(text, columns, lineterminator="\n")
        table.writeheader()
        table.writerows(merged[step] for step in sorted(merged))
        files.write_whole(self.path, text.getvalue())
