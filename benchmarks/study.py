"""FRA, BYOL and FRA with parts left out or changed, pre-trained alike on real faces and measured alike.

    python benchmarks/study.py --faces DIR --size tiny --seeds 0,1,2 --only fra,byol --budget 60
    python benchmarks/study.py --table --size tiny                                # what is known so far

DIR holds pretrain_* (tars or folders of photos) and the labelled sets landmarks68, attributes, expression and regions
(tars or folders with labels.csv; docs/evaluation.md, data set `csv`). The runs: configs/study/variants.yaml,
an untrained network, and grey pixels without a network. A run is a folder of WORK; one that is done is passed over, one
that was stopped resumes, so the same command continues on another day. After --budget minutes nothing new starts, and
the run in progress saves itself and stops. Each run adds a row to OUT/study.jsonl.
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
import yaml
from study_faces import labelled_sets, pretraining_shards
from study_measure import WITHOUT_MAPS, grey_pixels, measure
from study_table import tables

from fra_dist.config import Config, dump_config, load_config
from fra_dist.errors import ConfigError, FraError
from fra_dist.eval.features.encoder import Encoder
from fra_dist.eval.features.networks import open_encoder
from fra_dist.exit_status import STOPPED
from fra_dist.json_lines import read_rows
from fra_dist.train.run_dir.folder import versions

CONFIGS = Path(__file__).parents[1] / "configs" / "study"
SIZES = ("tiny", "r18", "r50")
UNTRAINED, PIXELS = "untrained", "grey_pixels"
KEPT = ("loss/total", "loss/global", "loss/local", "loss/relation", "loss/relation_ratio", "queries/cosine",
        "regions/in_use", "embedding/spread")  # fmt: skip
"""Of the last row of metrics."""


def variants() -> dict[str, list[str]]:
    """Overrides of each variant, in the order of the file."""
    tree = yaml.safe_load((CONFIGS / "variants.yaml").read_text())
    return {name: [f"{key}={json.dumps(value)}" for key, value in changes.items()] for name, changes in tree.items()}


def config_of(size: str, variant: str, seed: int, extra: list[str]) -> Config:
    """The configuration of a run, where `extra` comes last. Raises ConfigError."""
    return load_config(CONFIGS / f"{size}.yaml", [*variants()[variant], f"seed={seed}", *extra])


@dataclass(frozen=True)
class Study:
    args: argparse.Namespace
    ends: float
    """time.monotonic() after which nothing new starts."""
    sets: dict[str, Path]
    shards: Path

    def folder(self, variant: str, seed: int) -> Path:
        size = self.args.size if self.args.steps is None else f"{self.args.size}-{self.args.steps}"
        return self.args.work / size / f"{variant}-seed{seed}"

    def config(self, variant: str, seed: int) -> Config:
        extra = [f"data.shards={self.shards}", f"output={self.folder(variant, seed)}", f"name={variant}"]
        if self.args.steps is not None:
            extra.append(f"train.steps={self.args.steps}")
        if self.args.threads is not None:
            extra.append(f"data.threads={self.args.threads}")
        return config_of(self.args.size, variant, seed, [*extra, *self.args.overrides])

    def do(self, variant: str, seed: int) -> bool:
        """Train and measure; False when the budget ended first. Raises FraError."""
        folder = self.folder(variant, seed)
        if (folder / "row.json").exists():
            return True
        config, seconds = self.config("fra" if variant in (UNTRAINED, PIXELS) else variant, seed), 0.0
        if variant not in (UNTRAINED, PIXELS):
            trained = self._train(config, folder)
            if trained is None:
                return False
            seconds = trained
        began = time.process_time()
        encoder = self._encoder(variant, seed, config)
        only = WITHOUT_MAPS if variant == PIXELS else ()
        scores = measure(encoder, self.sets, self.args.work / "cache", self.args.labels, only)
        row = self._row(variant, seed, config, folder, scores)
        row |= {"seconds_training": round(seconds), "seconds_measuring": round(time.process_time() - began)}
        if self.args.out is not None:
            with (self.args.out / "study.jsonl").open("a") as stream:
                stream.write(json.dumps(row) + "\n")
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "row.json").write_text(json.dumps(row, indent=1))
        _say(f"{variant}, seed {seed}: {seconds:.0f} s of training, {row['seconds_measuring']} s of measuring")
        return True

    def _train(self, config: Config, folder: Path) -> float | None:
        """Processor seconds that it took over all its attempts; None when it was stopped."""
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "wanted.yaml").write_text(dump_config(config))
        command = [sys.executable, "-m", "fra_dist.cli.main", "pretrain", str(folder / "wanted.yaml")]
        before, spent = _processor_seconds(), folder / "seconds.txt"
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
        return total

    def _env(self) -> dict[str, str]:
        threads = {} if self.args.threads is None else {"OMP_NUM_THREADS": str(self.args.threads)}
        return {**os.environ, **threads}

    def _encoder(self, variant: str, seed: int, config: Config) -> Encoder:
        if variant == PIXELS:
            return grey_pixels(config.data.image_size)
        where = str(self.folder(variant, seed))
        if variant == UNTRAINED:
            model = self.folder("fra", seed)
            if not (model / "row.json").exists():
                raise ConfigError(f"{UNTRAINED} has the model of fra, seed {seed}: run that first")
            where = f"random:{model}:{seed}"
        encoder = open_encoder(where)
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        (encoder.backbone if encoder.network is None else encoder.network).to(device)
        return encoder

    def _row(self, variant: str, seed: int, config: Config, folder: Path, scores: dict[str, float]) -> dict[str, Any]:
        row: dict[str, Any] = {"size": self.args.size, "variant": variant, "seed": seed}
        metrics = read_rows(folder / "metrics.jsonl") if (folder / "metrics.jsonl").exists() else []
        if metrics:
            row |= {"steps": metrics[-1]["step"], "images": metrics[-1]["step"] * config.train.global_batch}
            row["last"] = {key: round(metrics[-1][key], 5) for key in KEPT if metrics[-1].get(key) is not None}
        device = torch.device("cuda", 0) if torch.cuda.is_available() else torch.device("cpu")
        settings = {"changes": variants().get(variant, []), "overrides": self.args.overrides}
        row |= {"image_size": config.data.image_size, **settings, "scores": scores}
        return row | {"date": date.today().isoformat(), "versions": versions(device)}


def run_all(study: Study) -> bool:
    """Seed by seed, each variant; whether everything asked for is done."""
    for seed in study.args.seeds:
        for variant in study.args.only:
            if variant == PIXELS and seed != study.args.seeds[0]:
                continue  # it has no seed
            if time.monotonic() > study.ends or not study.do(variant, seed):
                _say("the budget is spent: the same command resumes from here")
                return False
    return True


def main() -> int:
    args = _arguments()
    try:
        unknown = [name for name in args.only if name not in (*variants(), UNTRAINED, PIXELS)]
        if unknown:
            raise ConfigError(f"--only {unknown[0]} is not one of {', '.join((*variants(), UNTRAINED, PIXELS))}")
        for variant in set(args.only) & set(variants()):
            config_of(args.size, variant, 0, args.overrides)  # before an hour is spent
        if not args.table:
            if args.threads is not None:
                torch.set_num_threads(args.threads)
            ends = time.monotonic() + 60 * args.budget
            study = Study(
                args,
                ends,
                labelled_sets(args.faces, args.work),
                pretraining_shards(args.faces, args.work, args.threads),
            )
            run_all(study)
        steps = args.steps or config_of(args.size, "fra", 0, args.overrides).train.steps
        print(tables(args.out / "study.jsonl", args.size, steps))
    except FraError as error:
        print(f"study: {error}", file=sys.stderr)
        return 2
    return 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    names = [*variants(), UNTRAINED, PIXELS]
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="settings of every run")
    parser.add_argument("--faces", type=Path, metavar="DIR", help="folder of the faces")
    parser.add_argument("--size", choices=SIZES, default="tiny")
    parser.add_argument("--only", type=_words, default=names, metavar="A,B", help=f"of {', '.join(names)}")
    parser.add_argument("--seeds", type=_whole, default=[0, 1, 2], metavar="N,N", help="(0,1,2)")
    parser.add_argument("--steps", type=int, help="of every run, instead of what the size says")
    parser.add_argument("--budget", type=float, default=float("inf"), metavar="MINUTES")
    parser.add_argument("--threads", type=int, help="of the arithmetic and of the input")
    parser.add_argument("--labels", type=_whole, metavar="P,P", help="percent, for all tasks, for small labelled sets")
    parser.add_argument("--work", type=Path, default=Path("runs/study"), help="(%(default)s)")
    parser.add_argument(
        "--out", type=Path, default=Path("benchmarks/results"), help="folder of study.jsonl (%(default)s)"
    )
    parser.add_argument("--table", action="store_true", help="only print the tables")
    args = parser.parse_args()
    if args.faces is None and not args.table:
        parser.error("--faces is needed")
    return args


def _words(text: str) -> list[str]:
    return text.split(",")


def _whole(text: str) -> list[int]:
    return [int(word) for word in text.split(",")]


def _processor_seconds() -> float:
    """Of all child processes that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _say(text: str) -> None:
    print(f"[{time.strftime('%H:%M:%S')}] {text}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
