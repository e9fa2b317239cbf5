"""The runs of the study: each is trained, measured and written down once, and resumes where it was stopped.

WORK/SIZE-STEPS/VARIANT-seedN is a run folder; row.json in it is the row of its test scores, row-val.json that of its
validation scores: one training serves both.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import time
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import torch
from study_measure import Measured, grey_pixels, measure, untrained
from study_plans import PIXELS, UNTRAINED, config_of, variants

from fra_dist.config import Config, dump_config
from fra_dist.errors import FraError
from fra_dist.eval.features.encoder import Encoder
from fra_dist.eval.features.networks import on_device, open_encoder
from fra_dist.exit_status import STOPPED
from fra_dist.json_lines import read_rows
from fra_dist.train.run_dir.folder import versions

KEPT = ("loss/total", "loss/global", "loss/local", "loss/relation", "loss/relation_ratio", "loss/correspondence",
        "loss/correspondence_ratio", "queries/cosine", "regions/in_use", "embedding/spread")  # fmt: skip
"""Of the last row of metrics."""


@dataclass(frozen=True)
class Study:
    """All runs of one command."""

    args: argparse.Namespace
    ends: float
    """time.monotonic() after which nothing new starts."""
    sets: dict[str, Path]
    """Folder of each labelled set."""
    shards: Path
    """Photos to pre-train on."""

    def folder(self, variant: str, seed: int) -> Path:
        """The run folder of a variant and seed; pre-training of another length has another one."""
        size = self.args.size if self.args.steps is None else f"{self.args.size}-{self.args.steps}"
        return self.args.work / size / f"{variant}-seed{seed}"

    def config(self, variant: str, seed: int) -> Config:
        """The configuration of a run."""
        extra = [f"data.shards={self.shards}", f"output={self.folder(variant, seed)}", f"name={variant}"]
        if self.args.steps is not None:
            extra.append(f"train.steps={self.args.steps}")
        if self.args.threads is not None:
            extra.append(f"data.threads={self.args.threads}")
        return config_of(self.args.size, variant, seed, [*extra, *self.args.overrides])

    def do(self, variant: str, seed: int) -> bool:
        """Train and measure; False when the budget ended first. Raises FraError."""
        folder = self.folder(variant, seed)
        done = folder / ("row.json" if self.args.part == "test" else f"row-{self.args.part}.json")
        if done.exists():
            return True
        config, seconds = self.config("fra" if variant in (UNTRAINED, PIXELS) else variant, seed), 0.0
        if variant not in (UNTRAINED, PIXELS):
            trained = self._train(config, folder)
            if trained is None:
                return False
            seconds = trained
        began = time.process_time()
        encoder = self._encoder(variant, seed, config)
        found = measure(encoder, self.sets, self.args.work / "cache", self.args.labels, self.args.part)
        row = self._row(variant, seed, config, folder, found)
        row |= {"seconds_training": round(seconds), "seconds_measuring": round(time.process_time() - began)}
        if self.args.out is not None:
            self.args.out.mkdir(parents=True, exist_ok=True)
            with (self.args.out / "study.jsonl").open("a") as stream:
                stream.write(json.dumps(row) + "\n")
        folder.mkdir(parents=True, exist_ok=True)
        done.write_text(json.dumps(row, indent=1))
        say(f"{variant}, seed {seed}: {seconds:.0f} s of training, {row['seconds_measuring']} s of measuring")
        return True

    def _train(self, config: Config, folder: Path) -> float | None:
        """Processor seconds that it took over all its attempts; None when it was stopped."""
        spent, trained = folder / "seconds.txt", folder / "trained.txt"
        if trained.exists():
            return float(spent.read_text())
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "wanted.yaml").write_text(dump_config(config))
        command = [sys.executable, "-m", "fra_dist.cli.main", "pretrain", str(folder / "wanted.yaml")]
        before = _processor_seconds()
        with (folder / "log.txt").open("ab") as log:
            process = subprocess.Popen(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL, env=self._env())
            try:
                status = process.wait(timeout=max(1.0, self.ends - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.terminate()
                status = process.wait()
            except BaseException:
                process.terminate()
                process.wait()
                raise
        total = _processor_seconds() - before + (float(spent.read_text()) if spent.exists() else 0.0)
        spent.write_text(str(total))
        if status == STOPPED:
            return None
        if status:
            last = (folder / "log.txt").read_text(errors="replace").strip().splitlines()[-1:]
            raise FraError(f"run {folder} ended with status {status} ({''.join(last)}); see {folder / 'log.txt'}")
        trained.write_text("")
        return total

    def _env(self) -> dict[str, str]:
        threads = {} if self.args.threads is None else {"OMP_NUM_THREADS": str(self.args.threads)}
        return {**os.environ, **threads}

    def _encoder(self, variant: str, seed: int, config: Config) -> Encoder:
        if variant == PIXELS:
            return grey_pixels(config.data.image_size)
        return on_device(untrained(config) if variant == UNTRAINED else open_encoder(str(self.folder(variant, seed))))

    def _row(self, variant: str, seed: int, config: Config, folder: Path, found: Measured) -> dict[str, Any]:
        row: dict[str, Any] = {"size": self.args.size, "variant": variant, "seed": seed, "part": self.args.part}
        metrics = read_rows(folder / "metrics.jsonl") if (folder / "metrics.jsonl").exists() else []
        if metrics:
            row |= {"steps": metrics[-1]["step"], "images": metrics[-1]["step"] * config.train.global_batch}
            row["last"] = {key: round(metrics[-1][key], 5) for key in KEPT if metrics[-1].get(key) is not None}
        device = torch.device("cuda", 0) if torch.cuda.is_available() else torch.device("cpu")
        settings = {"changes": variants().get(variant, []), "overrides": self.args.overrides}
        row |= {"image_size": config.data.image_size, **settings, "scores": found.scores}
        if found.drawn:
            row["drawn"] = found.drawn
        return row | {"date": date.today().isoformat(), "versions": versions(device)}


def run_all(study: Study) -> bool:
    """Seed by seed, each variant, so that a stop leaves whole seeds; whether everything asked for is done."""
    for seed in study.args.seeds:
        for variant in study.args.only:
            if variant == PIXELS and seed != study.args.seeds[0]:
                continue  # it has no seed
            if time.monotonic() > study.ends or not study.do(variant, seed):
                say("the budget is spent: the same command resumes here")
                return False
    return True


def say(text: str) -> None:
    print(f"[{time.strftime('%H:%M:%S')}] {text}", flush=True)


def _processor_seconds() -> float:
    """Of all child processes that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime
