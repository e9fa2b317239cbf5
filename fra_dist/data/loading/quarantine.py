"""Samples that cannot be used: the file that names them, the share that is allowed, and their substitutes.

**The substitute.** In place of bad sample s of epoch e come candidates number 0, 1, 2, ...: the first four drawn from
the shard of s (most likely open already), the others from the whole data set, each by a hash of (seed, e, s, number).
The first good candidate is used, with its own views of epoch e. Nothing else decides, so every world size, restart and
thread count puts the same sample in the same place.
"""

from collections.abc import Iterable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from fra_dist import json_lines
from fra_dist.data.loading.batch import BadSample
from fra_dist.data.order.counter_random import key, permute
from fra_dist.errors import DataError

FILE = "quarantine.jsonl"
"""Name of the file in a run's folder that lists bad samples, a JSON line each."""
ATTEMPTS = 64
"""Candidates that are tried in place of one bad sample."""
_NEAR = 4
_SHARD, _SET = 5, 6  # domains of the hash, beside those of plan.py and views.py
MIN_COUNT = 16
"""Number of bad samples below which the share is not judged: a few in a small set are no sign of a broken one."""


def candidates(seed: int, epoch: int, sample: int, shard_start: int, shard_samples: int, total: int) -> Iterator[int]:
    """Sample ids to try, in order, in place of bad sample `sample` of an epoch.

    shard_start, shard_samples: first id and number of samples of its shard; total: samples of the whole data set.
    """
    for number in range(min(_NEAR, shard_samples - 1)):
        # A walk over the shard that starts after the sample itself visits none twice.
        here = int(permute(number, shard_samples - 1, key(_SHARD, seed, epoch, sample))[0])
        yield shard_start + (sample - shard_start + 1 + here) % shard_samples
    for number in range(ATTEMPTS - _NEAR):
        yield int(key(_SET, seed, epoch, sample, number)[0] % total)


class Quarantine:
    """The bad samples that this rank knows of.

    known: ids of all of them; met: ids of those that its plan led it to; read: how many samples it has read.
    """

    def __init__(self, known: Iterable[int] = ()) -> None:
        self.known = set(known)
        self.met: set[int] = set()
        self.read = 0

    def add(self, sample: int, planned: bool = True) -> bool:
        """Note a bad sample; True when this rank did not know of it. Only planned ones count for the allowed share."""
        if planned:
            self.met.add(sample)
        new = sample not in self.known
        self.known.add(sample)
        return new


def check_bad_share(bad: int, read: int, total: int, max_share: float, example: BadSample | None = None) -> None:
    """Raise DataError when `bad` of `read` samples are more than the share `max_share`.

    total: samples of the data set, which bounds `read`; example: one bad sample to name in the message.
    """
    read = max(1, min(read, total))
    enough = bad >= MIN_COUNT or (max_share == 0 and bad > 0)
    if enough and bad / read > max_share:
        last = f", one being {example.key} in {example.shard} ({example.reason})" if example else ""
        raise DataError(
            f"{bad} of {read} samples read cannot be used ({bad / read:.1%}, more than "
            f"data.max_bad_share={max_share:g}){last}: check the shards, or raise data.max_bad_share"
        )


def quarantine_row(sample: BadSample, step: int) -> dict[str, Any]:
    """The JSON object of a line of quarantine.jsonl: step, id, shard, key, reason."""
    return {"step": step, **asdict(sample)}


def read_quarantine(folder: str | Path) -> list[BadSample]:
    """The bad samples that a run has noted in its folder; damaged lines are passed over. Raises DiskError or
    AccessError."""
    found = []
    for row in json_lines.iterate(Path(folder) / FILE):
        try:
            found.append(BadSample(int(row["id"]), str(row["shard"]), str(row["key"]), str(row["reason"])))
        except (ValueError, TypeError, KeyError, OverflowError):
            continue
    return found
