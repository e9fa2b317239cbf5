"""A campaign of faults: the undisturbed trainings, then all faults, several at a time; rows are kept as they come."""

import json
import random
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import asdict
from pathlib import Path
from typing import Any

from fra_dist.config import Config
from fra_dist.errors import LaunchError
from fra_dist.files import exists, paths_below, raw_text
from fra_dist.formats import clock_text
from fra_dist.launch.chaos.campaign_setup import CampaignSetup, damage_photos
from fra_dist.launch.chaos.fault_draws import Fault
from fra_dist.launch.chaos.trainings import Training
from fra_dist.launch.chaos.trial import HARMS, FaultResult, FaultTrial

ROWS = "faults.jsonl"
Say = Callable[[str], None]


class Campaign:
    """Runs the trials of a campaign in `folder` and records them in `folder/faults.jsonl`.

    The first line of that file says what the campaign is; a row for each fault follows. A campaign that was interrupted
    resumes with the faults that have no row yet.
    """

    def __init__(self, setup: CampaignSetup, folder: Path, about: dict[str, Any], say: Say, keep: bool = False) -> None:
        self.setup, self.folder, self.say, self.keep = setup, folder, say, keep
        self.stop = threading.Event()
        self.rows = read_results(folder / ROWS, about)
        folder.mkdir(parents=True, exist_ok=True)
        if not exists(folder / ROWS):
            self._write(about)

    def run(self, faults: Sequence[Fault], jobs: int) -> list[FaultResult]:
        """Run the trials of `faults`, `jobs` at a time, and return all rows in the order of the faults.

        Raises LaunchError when an undisturbed training fails.
        """
        done = {row.fault for row in self.rows}
        left = [fault for fault in faults if fault.number not in done]
        if done:
            self.say(f"resuming: {len(done)} of {len(faults)} faults have a row already")
        undisturbed = {spoilt: self._undisturbed(spoilt) for spoilt in self._needed(left)}
        began = time.monotonic()
        with ThreadPoolExecutor(jobs) as pool:
            pending = [pool.submit(self._trial, fault, undisturbed) for fault in left]
            try:
                for count, future in enumerate(as_completed(pending), 1):
                    row = future.result()
                    self.rows.append(row)
                    self._write(asdict(row))
                    seconds = (time.monotonic() - began) / count * (len(left) - count)
                    self.say(f"{len(self.rows)}/{len(faults)}  {result_line(row)}  [{clock_text(seconds)} left]")
            except BaseException:
                self.stop.set()
                pool.shutdown(cancel_futures=True)
                raise
        return sorted(self.rows, key=lambda row: row.fault)

    def _needed(self, faults: Sequence[Fault]) -> list[bool]:
        """Return which undisturbed trainings are needed.

        The one on whole shards is first: it shows how long things take.
        """
        damaged = any(HARMS[fault.kind].damaged_shards for fault in faults)
        return ([False] if faults else []) + ([True] if damaged else [])

    def _trial(self, fault: Fault, undisturbed: dict[bool, Path]) -> FaultResult:
        spoilt = HARMS[fault.kind].damaged_shards
        return FaultTrial(fault, self.setup, self.folder, self.stop, self.keep).run(undisturbed[spoilt])

    def _undisturbed(self, spoilt: bool) -> Path:
        name = "undisturbed-on-damaged-shards" if spoilt else "undisturbed"
        place = next(p for n in range(1000) if not exists(p := self.folder / f"{name}{f'-{n}' if n else ''}"))
        config: Config = self.setup.config
        training = Training(place, config, self.setup.ranks, self.stop)
        if spoilt:
            training.configure(self.setup.copy_shards(place / "shards"))
            damage_photos(place / "shards", self.setup.manifest, self.setup.damaged(), random.Random(0))
        began = time.monotonic()
        seen: dict[int, float] = {}
        training.start()
        try:
            status = training.wait(lambda: seen.setdefault(training.reached(), time.monotonic()))
        finally:
            training.close()
        if status != 0 or not training.complete:
            raise LaunchError(f"the {name} training ended with status {status}: {training.attempt.last_line()}")
        seconds = time.monotonic() - began
        if not spoilt:
            self._learn(training, {step: t for step, t in seen.items() if step}, began)
        self.say(f"{name}: {training.steps} steps, {seconds:.1f} s")
        return training.run

    def _learn(self, training: Training, seen: dict[int, float], began: float) -> None:
        first, last = min(seen), max(seen)
        self.setup.start_seconds = seen[first] - began
        self.setup.step_seconds = (seen[last] - seen[first]) / max(1, last - first)
        self.setup.run_bytes = sum(path.stat().st_size for path in paths_below(training.run))

    def _write(self, row: dict[str, Any]) -> None:
        with (self.folder / ROWS).open("a") as stream:
            stream.write(json.dumps(row) + "\n")


def read_results(path: Path, about: dict[str, Any]) -> list[FaultResult]:
    """Read the rows of an earlier call of the same campaign; empty when there is no file.

    `about` says what the campaign is. Raises LaunchError when the file belongs to another campaign.
    """
    lines = [json.loads(line) for line in raw_text(path).splitlines()] if exists(path) else []
    if lines and lines[0] != about:
        raise LaunchError(f"{path} is of another campaign: name a new --out")
    return [FaultResult(**line) for line in lines[1:] if "kind" in line]


def result_line(row: FaultResult) -> str:
    """Describe the result of one fault in one line, for the log of a campaign."""
    what = f"{row.kind} after step {row.step}" + (f" ({row.detail})" if row.detail else "")
    recovered = "" if row.recover_seconds is None else f", {row.recover_seconds:.1f} s without a new step"
    if row.good:
        return f"{what}: finished and identical, {row.steps_lost} steps lost{recovered}"
    same = "identical" if row.identical else "NOT IDENTICAL"
    return f"{what}: {row.outcome}, {same}, statuses {row.statuses}: {row.difference}"
