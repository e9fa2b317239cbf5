"""The folder that explains a run by itself.

RUN/config.yaml       every setting, resolved
    attempt.json      which attempt may write; see `fence.py`
    versions.json     of Python, packages, code and device, of the last start
    history.jsonl     starts, resumes, checkpoints, damage found, how it ended
    metrics.jsonl     one row a log step
    quarantine.jsonl  samples that could not be decoded
    samples/          with log.samples, what each rank read at every step
    checkpoints/  heatmaps/  tensorboard/  curves.png
"""

import json
import os
import platform
import subprocess
import time
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

from fra_dist.config import Config, dump_config, load_config
from fra_dist.data.loading.quarantine import FILE as QUARANTINE
from fra_dist.distributed.environment import read_launch
from fra_dist.errors import ConfigError, FraError, LaunchError
from fra_dist.train.checkpoints.reading import Checkpoint, list_checkpoints
from fra_dist.train.run_dir.fence import Claim
from fra_dist.train.run_dir.row_file import RowFile

_PACKAGES = ("fra-dist", "torch", "torchvision", "deepspeed", "nvidia-dali-cuda130", "webdataset", "numpy", "triton")
SAMPLES = "samples"
"""Folder of the sample logs of the ranks."""
_MEASURED = ("images_per_second", "data_wait", "seconds_left", "memory_mib", "gradient/noise_scale", "probe/seconds")
_HARMLESS = (
    *("name", "output", "checkpoint", "log", "guard", "probe", "alarm", "train.device", "train.backend"),
    *("train.zero_stage", "train.watchdog_seconds", "train.activation_checkpointing", "train.cuda_graphs"),
    *("data.shards", "data.threads", "data.prefetch", "data.pipeline", "data.decode", "data.max_bad_share"),
    *("data.cache", "data.cache_gb", "data.prefetch_shards", "data.retries", "data.timeout_seconds"),
)


class RunFolder:
    """Writes happen on rank 0 alone; other ranks hold the path."""

    def __init__(self, path: str | Path, is_main: bool = True) -> None:
        self.path = Path(path)
        self.is_main = is_main
        self.checkpoints = self.path / "checkpoints"
        self.heatmaps = self.path / "heatmaps"
        self.latest: dict[str, Any] = {}
        """The newest row of metrics; rows of one step are one."""
        self._claim: Claim | None = None
        self._rows = {name: RowFile(self.path / name) for name in ("metrics.jsonl", "history.jsonl")}

    def open(self, config: Config, device: torch.device, force: bool = False, fresh: bool = False) -> None:
        """Lock the folder, compare with the configuration that it holds, write ours, note harmless differences.

        `fresh` moves what an earlier run left to RUN/former-N. Raises LaunchError when another process holds the
        folder or it cannot be written, ConfigError when a setting that changes the result differs (unless `force`).
        """
        if not self.is_main:
            return
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            self._claim = Claim.take(self.path, read_launch(os.environ))
            if fresh:
                self._move_away()
            notes = self._compare(config, force)
            _replace(self.path / "config.yaml", dump_config(config))
            _replace(self.path / "versions.json", json.dumps(versions(device), indent=1))
        except OSError as error:
            self.close()
            raise LaunchError(
                f"cannot write the run folder {self.path}: {error.strerror}: make room there, or set another output"
            ) from None
        except FraError:
            self.close()
            raise
        for text in notes:
            self.note("notice", text=text)

    def close(self) -> None:
        if self._claim is not None:
            for rows in self._rows.values():
                rows.flush()
            self._claim.release()
            self._claim = None

    @property
    def attempt(self) -> int:
        """The number of this attempt; 0 where the folder is not open for writing."""
        return self._claim.attempt if self._claim else 0

    def check(self) -> None:
        """Raises Superseded when a newer attempt of this run has begun: the last thing to do before a write."""
        if self._claim is not None:
            self._claim.check()

    def note(self, event: str, **facts: Any) -> None:
        """Add a line to history.jsonl."""
        attempt = {"attempt": self._claim.attempt} if self._claim else {}
        self._append("history.jsonl", {"time": round(time.time(), 1), "event": event, **attempt, **facts})

    def log(self, row: dict[str, Any]) -> None:
        """Add a row to metrics.jsonl."""
        same = self.latest.get("step") == row.get("step")
        self.latest = {**self.latest, **row} if same else dict(row)
        self._append("metrics.jsonl", row)

    def forget_after(self, step: int) -> None:
        """Drop rows beyond the checkpoint that the run goes on from: they will be written again."""
        if not self.is_main:
            return
        self.latest = {}
        self._rows["metrics.jsonl"].forget(lambda row: row["step"] > step)
        for path in (self.path / "metrics.jsonl", self.path / QUARANTINE, *self.path.glob(f"{SAMPLES}/*.jsonl")):
            if path.exists():
                _keep_rows(path, step)

    def losses(self) -> list[float]:
        """Total losses of the log steps so far."""
        path = self.path / "metrics.jsonl"
        rows = read_rows(path) if path.exists() else []
        return [float(row["loss/total"]) for row in rows if row.get("loss/total") is not None]

    def own_step(self, checkpoint: Checkpoint | None) -> int:
        """The step of a checkpoint of this run; -1 for one of another."""
        own = checkpoint is not None and checkpoint.path.resolve().parent == self.checkpoints.resolve()
        return checkpoint.step if checkpoint is not None and own else -1

    def _append(self, name: str, row: dict[str, Any]) -> None:
        if self.is_main:
            self.check()
            self._rows[name].append(row)

    def _move_away(self) -> None:
        """Checkpoints, metrics and the guard's decisions of an earlier run, for a start at step 0."""
        old = [path for path in (self.checkpoints, self.path / "metrics.jsonl", self.path / "guard") if path.exists()]
        if not old:
            return
        number = 1 + max((int(p.name[7:]) for p in self.path.glob("former-*") if p.name[7:].isdigit()), default=0)
        target = self.path / f"former-{number}"
        target.mkdir()
        for path in old:
            path.rename(target / path.name)
        self.note("notice", text=f"a fresh start: checkpoints and metrics were moved to {target.name}")

    def _compare(self, config: Config, force: bool) -> list[str]:
        path = self.path / "config.yaml"
        if not path.exists() or not list_checkpoints(self.checkpoints):
            return []
        before = load_config(path)
        harmful = harmful_differences(before, config)
        if harmful and not force:
            raise ConfigError(
                f"{self.path} was begun with another configuration: {'; '.join(harmful)}. "
                "Give a new output=, the old values, or --force to go on all the same"
            )
        return [text for _, text in compare_configs(before, config)]


def harmful_differences(old: Config, new: Config) -> list[str]:
    """ "key: old -> new" of the settings that differ and change what a run computes."""
    return [text for key, text in compare_configs(old, new) if not _is_harmless(key)]


def compare_configs(old: Config, new: Config) -> list[tuple[str, str]]:
    """(dotted key, "key: old -> new") of every setting that differs."""
    before, after = _flat(old.model_dump(mode="json", by_alias=True)), _flat(new.model_dump(mode="json", by_alias=True))
    keys = [k for k in {**before, **after} if before.get(k) != after.get(k)]
    return [(k, f"{k}: {before.get(k)} -> {after.get(k)}") for k in keys]


def versions(device: torch.device) -> dict[str, Any]:
    """What ran: Python, packages, the commit of the source if it is a checkout, and the device."""
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
    """A metrics row without what depends on the machine, the moment, or a stop: the rest repeats to the bit."""
    return {name: value for name, value in row.items() if name not in _MEASURED and not name.startswith("source/")}


def read_rows(path: Path) -> list[dict[str, Any]]:
    """JSON lines; a last line cut short by a kill is left out."""
    rows = []
    for line in path.read_text().splitlines():
        try:
            rows.append(json.loads(line))
        except ValueError:
            continue
    return rows


def _replace(path: Path, text: str) -> None:
    """Write a file as a whole: one cut short by a full disk must not take the place of the old one."""
    partial = path.with_name(f".{path.name}-{os.getpid()}")
    try:
        with partial.open("w") as stream:
            stream.write(text)
            stream.flush()
            os.fsync(stream.fileno())
        partial.replace(path)
    except OSError:
        partial.unlink(missing_ok=True)
        raise


def _keep_rows(path: Path, last: int) -> None:
    kept = [row for row in read_rows(path) if row["step"] <= last]
    try:
        _replace(path, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in kept))
    except OSError as error:
        raise LaunchError(f"cannot write {path}: {error.strerror}: make room there, or set another output") from None


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
        said = subprocess.run(
            ["git", "describe", "--always", "--dirty"], cwd=root, capture_output=True, text=True, timeout=10
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return said.stdout.strip() or None
