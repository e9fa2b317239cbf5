"""How fast synthetic faces are drawn: `python benchmarks/synthetic.py [--out DIR]`, on one core.

Prints images a second (with masks and landmarks) at three sizes, median and best of six rounds of 96 faces, in CPU
time, so that other work on the machine matters less. `--out` adds a row to DIR/synthetic.jsonl.
"""

import argparse
import json
import statistics
import time
from pathlib import Path

import numpy as np
import torch

from fra_dist.synthetic import render
from fra_dist.train.run_dir.folder import versions

FACES, ROUNDS = 96, 6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, help="folder for the row")
    args = parser.parse_args()
    render(np.arange(16), 64)
    rates = {}
    print("pixels  median  best   images/s of one core")
    for size in (64, 112, 224):
        seconds = []
        for number in range(ROUNDS):
            began = time.process_time()
            render(np.arange(number * FACES, (number + 1) * FACES), size)
            seconds.append(time.process_time() - began)
        rates[size] = [round(FACES / statistics.median(seconds), 1), round(FACES / min(seconds), 1)]
        print(f"{size:6}  {rates[size][0]:6}  {rates[size][1]:6}")
    if args.out:
        row = {"images_per_second": rates, "versions": versions(torch.device("cpu"))}
        args.out.mkdir(parents=True, exist_ok=True)
        with (args.out / "synthetic.jsonl").open("a") as stream:
            stream.write(json.dumps(row) + "\n")


if __name__ == "__main__":
    main()
