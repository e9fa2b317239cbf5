"""What the `fra-dist shards` commands share: progress and a summary line."""

import sys
import time
from typing import Any

from fra_dist.formats import plural
from fra_dist.safe_output import quiet


def shards_line(manifest: Any) -> str:
    """One line on prepared shards: folder, samples, shards and size."""
    size = sum(shard.bytes for shard in manifest.shards)
    return (
        f"{manifest.folder}: {plural(manifest.total, 'sample')} in {plural(len(manifest.shards), 'shard')}, "
        f"{size / 1e6:.1f} MB"
    )


class Bar:
    """Progress with the time left: a bar on a terminal, elsewhere a line now and then. Called with (done, total)."""

    def __init__(self, unit: str) -> None:
        from tqdm import tqdm

        self.unit, self._said = unit, time.monotonic()
        # None: a bar on a terminal only
        self._bar = tqdm(unit=f" {unit}", disable=quiet() or None, dynamic_ncols=True)

    def __call__(self, done: int, total: int) -> None:
        if self._bar.disable and not quiet() and time.monotonic() - self._said > 30:
            self._said = time.monotonic()
            print(f"{done} of {total} {self.unit}", file=sys.stderr, flush=True)
        if self._bar.total != total:
            self._bar.reset(total)
            self._bar.initial = self._bar.n = done  # what an earlier attempt did says nothing about the speed
        self._bar.update(done - self._bar.n)

    def write(self, line: str) -> None:
        """Print a line on standard output, beside the bar."""
        self._bar.write(line)

    def __enter__(self) -> "Bar":
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.close()
