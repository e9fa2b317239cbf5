"""The run folder, which explains a run by itself.

    RUN/config.yaml       every setting, resolved
        attempt.json      which attempt may write; see `fence`
        versions.json     of Python, packages, code and device, of the last start
        history.jsonl     starts, resumes, checkpoints, damage found, how it ended
        metrics.jsonl     one row a log step
        quarantine.jsonl  samples that could not be decoded
        samples/          with log.samples, what each rank read at every step
        checkpoints/  heatmaps/  tensorboard/  curves.png

Files to which several ranks write take whole lines from each, so that rows do not mix.
"""

import os
import platform
import subprocess
import time
from collections.abc import Mapping
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

from fra_dist import files, json_lines
from fra_dist.config import Config, dump_config
from fra_dist.data.loading.quarantine import FILE as QUARANTINE
from fra_dist.distributed.environment import read_launch
from fra_dist.errors import ConfigError, FraError, LaunchError
from fra_dist.train.checkpoints.reading import Checkpoint, newest_config
from fra_dist.train.run_dir.fence import Claim, Superseded
from fra_dist.train.run_dir.row_file import RowFile

_PACKAGES = ("fra-dist", "torch", "torchvision", "deepspeed", "nvidia-dali-cuda130", "webdataset", "numpy", "triton")
SAMPLES = "samples"
"""The folder of the ranks' sample logs, in the run folder."""
_MEASURED = (
    "images_per_second",
    "data_wait",
    "seconds_left",
    "memory_mib",
    "gradient/noise_scale",
    "probe/seconds",
    "speed/tflops",
    "speed/mfu",
)
_HARMLESS = (
    *("name", "output", "checkpoint", "log", "guard", "probe", "alarm", "train.device", "train.backend"),
    *("train.zero_stage", "train.watchdog_seconds", "train.activation_checkpointing", "train.cuda_graphs"),
    *("data.shards", "data.threads", "data.prefetch", "data.pipeline", "data.decode", "data.max_bad_share"),
    *(
        "model.init",
        "data.photos",
        "data.cache",
        "data.cache_gb",
        "data.prefetch_shards",
        "data.retries",
        "data.timeout_seconds",
    ),
)


class RunFolder:
    """The folder of a run, which this class writes to on rank 0 only; on other ranks it knows the path."""

    def __init__(self, path: str | Path, is_main: bool = True) -> None:
        self.path = Path(path)
        self.is_main = is_main
        self.checkpoints = self.path / "checkpoints"
        self.heatmaps = self.path / "heatmaps"
        self.latest: dict[str, Any] = {}
        """The newest row of metrics; rows of the same step are merged."""
        self._claim: Claim | None = None
        self._rows = {name: RowFile(self.path / name) for name in ("metrics.jsonl", "history.jsonl")}

    def open(self, config: Config, device: torch.device, force: bool = False, fresh: bool = False) -> None:
        """Claim the folder, compare with the configuration in its newest checkpoint, and write ours; on rank 0 only.

        Harmless differences are recorded in the history. `fresh` moves what an earlier run left to RUN/former-N. Raises
        LaunchError when another process holds the folder, ConfigError when a setting that changes the result differs
        (unless `force`), DiskError or AccessError when something in the folder cannot be read or written.
        """
        if not self.is_main:
            return
        try:
            files.make_folder(self.path)
            self._claim = Claim.take(self.path, read_launch(os.environ))
            if fresh:
                self._move_away()
            notes = self._compare(config, force)
            files.sweep(self.path)
            files.write_whole(self.path / "config.yaml", dump_config(config))
            files.write_object(self.path / "versions.json", versions(device), indent=1)
        except OSError as error:
            self.close()
            raise files.failure(error, f"cannot write the run folder {self.path}", LaunchError) from None
        except FraError:
            self.close()
            raise
        for text in notes:
            self.note("notice", text=text)

    def close(self) -> None:
        """Write the rows that are still in memory, as far as the disk takes them, and release the folder."""
        if self._claim is None:
            return
        rows = list(self._rows.values())
        try:
            self.flush()
        except Superseded:
            rows = []  # the newer attempt makes them again
        except LaunchError:
            pass  # who may write is not known, so nothing is written
        for each in rows:
            each.report_lost()
        self._claim.release()
        self._claim = None

    @property
    def attempt(self) -> int:
        """The number of this attempt; 0 where the folder is not open for writing."""
        return self._claim.attempt if self._claim else 0

    def check(self) -> None:
        """Raise Superseded when a newer attempt of this run has begun. Call it right before a write."""
        if self._claim is not None:
            self._claim.check()

    def note(self, event: str, **facts: Any) -> None:
        """Add a line to history.jsonl, with the time and the attempt."""
        attempt = {"attempt": self._claim.attempt} if self._claim else {}
        self._append("history.jsonl", {"time": round(time.time(), 1), "event": event, **attempt, **facts})

    def log(self, row: dict[str, Any]) -> None:
        """Append a row of metrics to RUN/metrics.jsonl; its entry "step" says which step it is of."""
        same = self.latest.get("step") == row.get("step")
        self.latest = {**self.latest, **row} if same else dict(row)
        self._append("metrics.jsonl", row)

    def flush(self) -> None:
        """Try to write the rows that a failing disk has left in memory."""
        waiting = [rows for rows in self._rows.values() if rows.waiting]
        if waiting:
            self.check()
        for rows in waiting:
            rows.flush()

    def sync_rows(self) -> None:
        """Flush the rows that are in files to the disk: those of all ranks on this machine. Any thread may call it.

        Raises DiskError or AccessError.
        """
        paths = [self.path / name for name in (*self._rows, QUARANTINE)] + self._sample_logs()
        for path in paths:
            files.sync_file(path)
        for folder in {path.parent for path in paths}:
            try:
                files.patiently(partial(files.sync_folder, folder))
            except OSError as error:
                raise files.failure(error, f"cannot flush {folder} to the disk") from None

    def forget_after(self, step: int) -> None:
        """Drop the rows of steps after `step`, at which the run resumes: they will be written again.

        Damaged rows that are met are counted in the history. Raises DiskError or AccessError.
        """
        if not self.is_main:
            return
        self.latest = {}
        self._rows["metrics.jsonl"].forget(lambda row: row["step"] > step)
        for path in (self.path / "metrics.jsonl", self.path / QUARANTINE, *self._sample_logs()):
            try:
                damage = json_lines.drop_after(path, step)
            except OSError as error:
                raise files.failure(error, f"cannot write {path}") from None
            if damage.count:
                self.note("warning", text=damage.text())

    def losses(self, count: int) -> list[float]:
        """Return the total losses of the last `count` log steps, oldest first. Raises DiskError or AccessError."""
        name = "loss/total"
        rows = json_lines.last_rows(
            self.path / "metrics.jsonl",
            count,
            lambda row: json_lines.step_of_row(row) is not None and json_lines.number_in(row, name) is not None,
        )
        return [float(row[name]) for row in rows]

    def last_saved(self) -> int | None:
        """Return the step of the newest checkpoint that the history tells of since the last start at step 0, if any.

        Raises DiskError or AccessError.
        """
        for _, row in json_lines.from_end(self.path / "history.jsonl"):
            if row.get("event") in ("start", "fresh start", "checkpoint"):
                return json_lines.step_of_row(row) if row["event"] == "checkpoint" else None
        return None

    def _sample_logs(self) -> list[Path]:
        return files.paths_in(self.path / SAMPLES, "*.jsonl")

    def own_step(self, checkpoint: Checkpoint | None) -> int:
        """Return the step of a checkpoint of this run; -1 for None or one of another run."""
        own = checkpoint is not None and checkpoint.path.resolve().parent == self.checkpoints.resolve()
        return checkpoint.step if checkpoint is not None and own else -1

    def _append(self, name: str, row: dict[str, Any]) -> None:
        if self.is_main:
            self.check()
            self._rows[name].append(row)

    def _move_away(self) -> None:
        """Move checkpoints, metrics and the guard's decisions of an earlier run away, for a start at step 0."""
        wanted = (self.checkpoints, self.path / "metrics.jsonl", self.path / "guard")
        old = [path for path in wanted if files.exists(path)]
        if not old:
            return
        former = [name.removeprefix("former-") for name in files.names_in(self.path, "former-*")]
        number = 1 + max((int(name) for name in former if name.isdecimal()), default=0)
        target = self.path / f"former-{number}"
        self.note("fresh start", text=f"checkpoints and metrics move to {target.name}")  # before they are missed
        target.mkdir()
        for path in old:
            path.rename(target / path.name)

    def _compare(self, config: Config, force: bool) -> list[str]:
        before = newest_config(self.checkpoints)
        if before is None:
            return []
        harmful = harmful_differences(before, config)
        if harmful and not force:
            raise ConfigError(
                f"{self.path} was begun with another configuration: {'; '.join(harmful)}. "
                "Give a new output=, the old values, or --force to resume all the same"
            )
        return [text for _, text in compare_configs(before, config)]


def harmful_differences(old: Config, new: Config) -> list[str]:
    """List the settings that differ and change what a run computes, as "key: old -> new"."""
    return [text for key, text in compare_configs(old, new) if not _is_harmless(key)]


def compare_configs(old: Config, new: Config) -> list[tuple[str, str]]:
    """List every setting that differs, as (dotted key, "key: old -> new")."""
    before, after = _flat(old.model_dump(mode="json", by_alias=True)), _flat(new.model_dump(mode="json", by_alias=True))
    keys = [k for k in {**before, **after} if before.get(k) != after.get(k)]
    return [(k, f"{k}: {before.get(k)} -> {after.get(k)}") for k in keys]


def versions(device: torch.device) -> dict[str, Any]:
    """Return what runs: Python, packages, the commit of the source if it is a checkout, and the device."""
    found: dict[str, Any] = {"python": platform.python_version(), "platform": platform.platform()}
    for package in _PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            found[package] = None
    found["commit"] = _commit()
    found["device"] = (
        torch.cuda.get_device_name(device) if device.type == "cuda" else f"CPU, {torch.get_num_threads()} threads"
    )
    return found


def repeatable(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return a metrics row without what depends on the machine, the moment, or a stop: the rest repeats to the bit."""
    return {name: value for name, value in row.items() if name not in _MEASURED and not name.startswith("source/")}


def _is_harmless(key: str) -> bool:
    return any(key == name or key.startswith(name + ".") for name in _HARMLESS)


def _flat(tree: Any, prefix: str = "") -> dict[str, Any]:
    if not isinstance(tree, dict):
        return {prefix: tree}
    return {
        k: v for name, child in tree.items() for k, v in _flat(child, f"{prefix}.{name}" if prefix else name).items()
    }


def _commit() -> str | None:
    try:
        root = Path(__file__).parent
        result = subprocess.run(
            ["git", "describe", "--always", "--dirty"], cwd=root, capture_output=True, text=True, timeout=10
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return result.stdout.strip() or None
