"""The weight gradient of convolutions on a CPU, as a product over patches and as PyTorch does it.

    python benchmarks/convolution.py                       # prints a table
    python benchmarks/convolution.py --out benchmarks/results

Layers of ResNet-18 at 112 px with 32 images and of ResNet-50 at 224 px with 16, fp32, channels-last, GFLOP/s; beside
them the forward pass, and a product of two matrices of 2048, which is what the CPU can do. Best of `--rounds`, by
processor time of one thread.
"""

import argparse
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from fra_dist.models.convolution import weight_gradient
from fra_dist.train.run_dir.folder import versions

Layer = tuple[int, int, int, int, int, int]
"""Images, input and output channels, side of the map, kernel, stride."""
LAYERS: list[Layer] = [
    *((32, 64, 64, 28, 3, 1), (32, 64, 128, 28, 3, 2), (32, 128, 128, 14, 3, 1), (32, 256, 256, 7, 3, 1)),
    *((32, 256, 512, 7, 3, 2), (32, 512, 512, 4, 3, 1), (16, 64, 64, 56, 3, 1), (16, 128, 128, 28, 3, 1)),
    *((16, 256, 256, 14, 3, 1), (16, 512, 512, 7, 3, 1), (16, 64, 256, 56, 1, 1), (16, 256, 1024, 14, 1, 1)),
    *((16, 1024, 256, 14, 1, 1), (16, 512, 2048, 7, 1, 1)),
]
QUICK: list[Layer] = [(2, 64, 64, 7, 3, 1), (2, 64, 128, 7, 1, 2)]


def main(words: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--quick", action="store_true", help="tiny sizes")
    parser.add_argument("--out", type=Path, help="folder; appends to convolution.jsonl in it")
    args = parser.parse_args(words)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        rows = measure(QUICK if args.quick else LAYERS, args.rounds, 128 if args.quick else 2048)
    finally:
        torch.set_num_threads(threads)
    if args.out:
        args.out.mkdir(parents=True, exist_ok=True)
        common = {"date": time.strftime("%Y-%m-%d"), "versions": versions(torch.device("cpu"))}
        with (args.out / "convolution.jsonl").open("a") as file:
            file.writelines(json.dumps(row | common) + "\n" for row in rows)
    return 0


def measure(layers: list[Layer], rounds: int, side: int) -> list[dict[str, Any]]:
    a, b = torch.randn(2, side, side)
    product = 2 * side**3 / best(lambda: a @ b, rounds) / 1e9
    print(f"product of two matrices of {side}: {product:.0f} GFLOP/s")
    print(f"{'images, channels, map, kernel, stride':<40} {'forward':>8} {'PyTorch':>8} {'patches':>8} {'ratio':>6}")
    rows = []
    for layer in layers:
        rates = one_layer(layer, rounds)
        images, inputs, outputs, size, kernel, stride = layer
        name = f"{images} × {inputs}→{outputs} {size}×{size} k{kernel} s{stride}"
        forward, theirs, ours = rates["forward"], rates["pytorch"], rates["patches"]
        print(f"{name:<40} {forward:8.0f} {theirs:8.0f} {ours:8.0f} {ours / theirs:6.2f}")
        rows.append({"layer": layer, "product": product, **rates})
    return rows


@torch.no_grad()
def one_layer(layer: Layer, rounds: int) -> dict[str, float]:
    """GFLOP/s. Raises AssertionError where the two gradients differ."""
    images, inputs, outputs, size, kernel, stride = layer
    last = torch.channels_last
    x = torch.randn(images, inputs, size, size).contiguous(memory_format=last)
    weight = torch.randn(outputs, inputs, kernel, kernel).contiguous(memory_format=last)
    steps, edge = (stride, stride), (kernel // 2, kernel // 2)
    dy = torch.randn_like(torch.conv2d(x, weight, None, steps, edge))
    arguments = (dy, x, weight, None, steps, edge, (1, 1), False, (0, 0), 1, [False, True, False])
    runs: dict[str, Callable[[], torch.Tensor]] = {
        "forward": lambda: torch.conv2d(x, weight, None, steps, edge),
        "pytorch": lambda: torch.ops.aten.convolution_backward(*arguments)[1],
        "patches": lambda: weight_gradient(x, dy, (kernel, kernel), steps, edge),
    }
    torch.testing.assert_close(runs["patches"](), runs["pytorch"](), rtol=1e-3, atol=1e-4 * images * size)
    work = 2 * dy.numel() * inputs * kernel**2 / 1e9
    return {name: work / best(run, rounds) for name, run in runs.items()}


def best(run: Callable[[], Any], rounds: int) -> float:
    """Seconds of the processor."""
    run()
    times = []
    for _ in range(rounds):
        start = time.process_time()
        run()
        times.append(time.process_time() - start)
    return min(times)


if __name__ == "__main__":
    sys.exit(main())
