"""Does a run learn the same in bf16 as in fp32? Loss curves of the demo's model, beside what another seed does to them.

    python benchmarks/precision.py --out benchmarks/results        # --steps, --seeds; about 0.7 s a step and seed

The demo's configuration on rendered faces, with each seed in both formats. "formats apart" is the root mean square over
log steps and seeds of the difference between bf16 and fp32 with the same seed, "seeds apart" that between fp32 runs of
different seeds: bf16 is good enough where the first is the smaller. The time is that of the processor.
"""

import argparse
import itertools
import json
import math
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

import fra_dist
from fra_dist.json_lines import read_rows
from fra_dist.train.cpu_measurements import machine
from fra_dist.train.precision import cpu_computes_bf16
from fra_dist.train.run_dir.folder import versions

FORMATS = "fp32", "bf16"
Curve = dict[str, list[float]]


def main(words: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", default="demo", help="a configuration (demo)")
    parser.add_argument("--steps", type=int, default=200, help="of each run (200)")
    parser.add_argument("--seeds", type=int, default=3, help="two at the least (3)")
    parser.add_argument("--photos", type=int, default=512, help="rendered faces to train on (512)")
    parser.add_argument("--threads", type=int, default=1, help="of torch (1)")
    parser.add_argument("--out", type=Path, help="folder; appends to precision.jsonl in it")
    parser.add_argument("set", nargs="*", metavar="KEY=VALUE", help="other settings of the runs")
    args = parser.parse_args(words)
    torch.set_num_threads(args.threads)
    print(f"{machine()}, bf16 {'computed' if cpu_computes_bf16() else 'by way of fp32'}, load {os.getloadavg()[0]:.1f}")
    with tempfile.TemporaryDirectory() as scratch:
        fra_dist.make_shards(f"synthetic:{args.photos}@80", Path(scratch) / "faces", report=False)
        runs = {
            (kind, seed): curves(args, kind, seed, Path(scratch))
            for seed, kind in itertools.product(range(args.seeds), FORMATS)
        }
    row = {
        name: compared({key: curve[name] for key, (curve, _) in runs.items()}) for name in next(iter(runs.values()))[0]
    }
    seconds = {kind: statistics.median(cpu for (own, _), (_, cpu) in runs.items() if own == kind) for kind in FORMATS}
    show(row, seconds)
    if args.out:
        args.out.mkdir(parents=True, exist_ok=True)
        about: dict[str, Any] = {name: getattr(args, name) for name in ("config", "steps", "seeds", "photos", "set")}
        about |= {"date": time.strftime("%Y-%m-%d"), "cpu": machine(), "load": os.getloadavg()[0]}
        about |= {"versions": versions(torch.device("cpu")), "cpu_seconds": seconds, "curves": row}
        with (args.out / "precision.jsonl").open("a") as file:
            file.write(json.dumps(about) + "\n")
    return 0


def curves(args: argparse.Namespace, kind: str, seed: int, scratch: Path) -> tuple[Curve, float]:
    """Train once; returns the losses at log steps by name, and seconds of the processor."""
    began = time.process_time()
    train = {"steps": args.steps, "precision": kind, "backend": "torch", "device": "cpu"}
    output = str(scratch / f"{kind}-{seed}")
    log = {"every_steps": max(1, args.steps // 20), "heatmaps_every": 0, "tensorboard": False}
    config = fra_dist.load_config(args.config, args.set)
    data = {"shards": str(scratch / "faces"), "threads": args.threads}
    fra_dist.pretrain(config, output=output, seed=seed, data=data, train=train, log=log)
    rows = list(read_rows(Path(output) / "metrics.jsonl"))
    names = [name for name in rows[0] if name.startswith("loss/") and name.count("_") == 0]
    return {name: [row[name] for row in rows] for name in names}, time.process_time() - began


def compared(of_runs: dict[tuple[str, int], list[float]]) -> dict[str, float]:
    """What two formats and two seeds do to a loss; of_runs: (format, seed) -> its curve."""
    seeds = sorted({seed for _, seed in of_runs})
    formats = [zip(of_runs["bf16", seed], of_runs["fp32", seed], strict=True) for seed in seeds]
    pairs = itertools.combinations(seeds, 2)
    others = [zip(of_runs["fp32", one], of_runs["fp32", two], strict=True) for one, two in pairs]
    last = {kind: [of_runs[kind, seed][-1] for seed in seeds] for kind in FORMATS}
    found = {f"last_{kind}": statistics.mean(values) for kind, values in last.items()}
    found |= {"lowest_fp32": min(last["fp32"]), "highest_fp32": max(last["fp32"])}
    return found | {"formats_apart": _apart(formats), "seeds_apart": _apart(others)}


def _apart(pairs: list[Any]) -> float:
    return math.sqrt(statistics.mean((one - two) ** 2 for pair in pairs for one, two in pair))


def show(row: dict[str, dict[str, float]], seconds: dict[str, float]) -> None:
    """Print the table."""
    print(f"seconds of the processor for a run: fp32 {seconds['fp32']:.1f}, bf16 {seconds['bf16']:.1f}")
    print(f"{'':<22}{'last, fp32 (seeds)':>26}{'last, bf16':>12}{'formats apart':>15}{'seeds apart':>13}")
    for name, found in row.items():
        seeds = f"{found['last_fp32']:.4f} ({found['lowest_fp32']:.4f} to {found['highest_fp32']:.4f})"
        apart = f"{found['formats_apart']:15.4f}{found['seeds_apart']:13.4f}"
        print(f"{name:<22}{seeds:>26}{found['last_bf16']:12.4f}{apart}")


if __name__ == "__main__":
    sys.exit(main())
