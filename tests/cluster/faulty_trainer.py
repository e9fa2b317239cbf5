"""`fra-dist pretrain` with one fault, once in a run: FAULT=KIND:RANK:STEP python faulty_trainer.py RUN pretrain ...

reader  the loader's thread never gets the bytes of that step
gil     a C function keeps the interpreter to itself
hook    rank 0 takes 16 s over a checkpoint
slow    every step from then on takes 300 ms longer before the forward pass
late    the data of every step from then on come 600 ms late
"""

import os
import sys
import time
from pathlib import Path

from fra_dist.cli.main import main
from fra_dist.data.loading.feeder import Feeder
from fra_dist.train.hooks.saving import Checkpoints
from fra_dist.train.step import Step
from fra_dist.train.trainer import Run


def put_in(kind: str, step: int, mark: Path) -> None:
    prepare, run, save = Feeder.prepare, Step.run, Checkpoints._save

    def first() -> bool:
        try:
            mark.touch(exist_ok=False)
        except FileExistsError:
            return False
        return True

    def faulty_prepare(self: Feeder, number: int) -> object:
        if kind == "reader" and number == step and first():
            time.sleep(1000)
        if kind == "late" and number >= step:
            time.sleep(0.6)
        return prepare(self, number)

    def faulty_run(self: Step, number: int, *rest: object) -> object:
        if kind == "gil" and number == step and first():
            sum(range(10**12))
        if kind == "slow" and number >= step:
            time.sleep(0.3)
        return run(self, number, *rest)

    def faulty_save(self: Checkpoints, owner: Run) -> None:
        if kind == "hook" and owner.completed == step and first():
            time.sleep(16)
        save(self, owner)

    Feeder.prepare, Step.run, Checkpoints._save = faulty_prepare, faulty_run, faulty_save


if __name__ == "__main__":
    kind, rank, step = os.environ["FAULT"].split(":")
    if os.environ.get("RANK", "0") == rank:
        put_in(kind, int(step), Path(sys.argv[1]).with_name("fault"))
    sys.exit(main(sys.argv[2:]))
