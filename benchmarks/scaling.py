"""How the time of a step grows with regions, cells of the map, images and ranks, beside what the work grows by.

    python benchmarks/scaling.py --out benchmarks/results        # minutes; --quick: tiny sizes

The step that the trainer runs, with the small backbone of stride 8, both halves of the loss and the relation term. One
quantity at a time is changed, the sizes take turns, and times are those of the processor, medians over rounds. The
slope is that of the logarithms between neighbours: 1 where the time grows with the quantity, 0 where it does not. With
more regions only the decoder and the losses have more to do, so the slope must stay below 1; more cells and more images
are more work everywhere: 1. Ranks are processes that meet through gloo, each with its own images: what grows is what a
rank does for the others, and the time is that of rank 0's processor, without waiting.
"""

import argparse
import json
import math
import os
import socket
import statistics
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import multiprocessing
from whole_step import STEPS, OurStep, Setting

from fra_dist import distributed
from fra_dist.config import Config, parse_config
from fra_dist.distributed import SINGLE, CrossRank
from fra_dist.train.cpu_measurements import machine
from fra_dist.train.run_dir.folder import versions

CPU = torch.device("cpu")
STRIDE = 8
"""Pixels to a cell of the map of the small backbone."""
BASE = {"regions": 8, "cells": 14 * 14, "images": 16}
SIZES = {"regions": (8, 16, 32, 64), "cells": (7 * 7, 14 * 14, 28 * 28), "images": (8, 16, 32, 64)}
RANKS = (1, 2, 4)
QUICK = {"regions": (4, 8), "cells": (4 * 4, 5 * 5), "images": (2, 4)}


@dataclass(frozen=True)
class Sized(Setting):
    """A step of a small network with so many regions."""

    regions: int = 8

    def config(self, **train: Any) -> Config:
        """Of a run like this, with settings of `train` changed."""
        model = {"backbone": "tiny", "width": 64, "hidden": 256, "regions": self.regions}
        train = {"global_batch": self.batch, "steps": STEPS, "backend": "torch", "precision": "fp32", **train}
        rest = {"optim": {"warmup_steps": 1}, "data": {"image_size": self.size}}
        return parse_config({"model": model, "train": {"device": "cpu", **train}, **rest})


def step_of(sizes: dict[str, int], cross: CrossRank = SINGLE) -> OurStep:
    """The step for `regions`, `cells` of the map and `images` of a rank."""
    side = STRIDE * math.isqrt(sizes["cells"])
    return OurStep(Sized("tiny", side, sizes["images"] * cross.world, CPU, regions=sizes["regions"]), cross)


def curve(name: str, values: tuple[int, ...], rounds: int) -> list[float]:
    """Milliseconds of the processor for a step at each value of one quantity, the others as in BASE."""
    return medians([step_of(BASE | {name: value}) for value in values], rounds)


def medians(steps: list[OurStep], rounds: int) -> list[float]:
    """Milliseconds of the processor for each step, in turn."""
    times: list[list[float]] = [[] for _ in steps]
    for number in range(rounds + 1):
        for step, of_step in zip(steps, times, strict=True):
            began = time.process_time()
            step().item()
            if number:  # the first one allocates
                of_step.append(1e3 * (time.process_time() - began))
    return [statistics.median(of_step) for of_step in times]


def by_ranks(values: tuple[int, ...], rounds: int, images: int) -> list[float]:
    """Milliseconds of rank 0's processor for a step with each number of ranks, every rank with so many images."""
    context = multiprocessing.get_context("spawn")
    found = []
    for world in values:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        answer = context.SimpleQueue()
        multiprocessing.spawn(one_rank, (world, port, rounds, images, answer), nprocs=world)
        found.append(answer.get())
    return found


def one_rank(rank: int, world: int, port: int, rounds: int, images: int, answer: Any) -> None:
    """Do the steps of a rank; rank 0 answers with its time."""
    torch.set_num_threads(1)
    place = {"RANK": rank, "WORLD_SIZE": world, "LOCAL_RANK": rank, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    os.environ.update({name: str(value) for name, value in place.items()})
    step = step_of(BASE | {"images": images}, distributed.start("cpu").cross)
    [milliseconds] = medians([step], rounds)
    if rank == 0:
        answer.put(milliseconds)
    distributed.stop()


def slopes(values: tuple[int, ...], times: list[float]) -> list[float]:
    """The slopes of the logarithms between neighbours."""
    pairs = zip(zip(values, times, strict=True), zip(values[1:], times[1:], strict=True), strict=False)
    return [math.log(later / sooner) / math.log(more / less) for (less, sooner), (more, later) in pairs]


def rows(args: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Measure and print one quantity after the other."""
    for name, values in {**(QUICK if args.quick else SIZES), "ranks": RANKS[:2] if args.quick else RANKS}.items():
        if name == "ranks":
            times = by_ranks(values, args.rounds, QUICK["images"][0] if args.quick else BASE["images"])
        else:
            times = curve(name, values, args.rounds)
        found = slopes(values, times)
        print(f"{name:<8} " + "  ".join(f"{value}: {ms:.1f} ms" for value, ms in zip(values, times, strict=True)))
        print(f"{'':<8} slopes " + ", ".join(f"{slope:.2f}" for slope in found), flush=True)
        yield {"quantity": name, "values": values, "cpu_ms": times, "slopes": found, "load": os.getloadavg()[0]}


def main(words: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5, help="steps of each size (5)")
    parser.add_argument("--quick", action="store_true", help="tiny sizes")
    parser.add_argument("--out", type=Path, help="folder; appends to scaling.jsonl in it")
    args = parser.parse_args(words)
    torch.set_num_threads(1)
    print(f"{machine()}, load {os.getloadavg()[0]:.1f}; elsewhere {BASE} and one rank")
    found = list(rows(args))
    if args.out:
        args.out.mkdir(parents=True, exist_ok=True)
        common = {"date": time.strftime("%Y-%m-%d"), "cpu": machine(), "base": BASE, "versions": versions(CPU)}
        with (args.out / "scaling.jsonl").open("a") as file:
            file.writelines(json.dumps(common | row) + "\n" for row in found)
    return 0


if __name__ == "__main__":
    sys.exit(main())
