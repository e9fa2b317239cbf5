"""Faults put into a run on purpose, to see what it does about them: FRA_DIST_FAULTS="nan@5,nan!9".

`nan@5` damages the first photo of rank 0 in step 5 once, as a passing defect of the hardware would; `nan!9` does it
whenever step 9 is done. Without the variable nothing is changed.
"""

import os
import re
from collections.abc import Mapping
from dataclasses import replace

from fra_dist.data.loading.batch import Batch
from fra_dist.errors import ConfigError

VARIABLE = "FRA_DIST_FAULTS"
"""The environment variable that lists the faults."""


class Faults:
    """The faults that the environment asks for, read once at the start of an attempt.

    Raises ConfigError for a fault that is not understood.
    """

    def __init__(self, environment: Mapping[str, str] = os.environ) -> None:
        self.once: set[int] = set()
        self.always: set[int] = set()
        for word in filter(None, environment.get(VARIABLE, "").split(",")):
            match = re.fullmatch(r"nan([@!])([1-9]\d*)", word.strip())
            if match is None:
                raise ConfigError(
                    f"{VARIABLE}={word!r} is not understood: write nan@STEP or nan!STEP, divided by commas"
                )
            (self.once if match[1] == "@" else self.always).add(int(match[2]))

    def touch(self, batch: Batch, rank: int) -> Batch:
        """Return the batch of a rank or, when its step has a fault on this rank, a copy with a photo of NaN."""
        step = batch.step + 1
        if step not in self.once and step not in self.always:
            return batch
        self.once.discard(step)
        if rank != 0:
            return batch
        first = batch.views[0].clone()
        first[0] = float("nan")
        return replace(batch, views=(first, *batch.views[1:]))
