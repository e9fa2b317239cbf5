"""What the end of views costs the host: a chain of DALI's operators, as the GPU loader once was, against one kernel.

    python benchmarks/loader_host.py                                # prints a table; --out benchmarks/results keeps it

Two things are counted or timed without a GPU:
- operators of the graphs for a GPU, from their definitions;
- CPU time of the process (all threads) for a batch of photos of a few pixels, for which operators cost little but
  their overhead. DALI's graphs run with its CPU operators: those of a GPU would launch kernels instead, which cost the
  host another time. The kernel's side (numbers, one copy, a launch a view) runs on the null GPU of tests/nullgpu,
  without the driver's own time.
The ways take turns; medians over rounds.
"""

import argparse
import io
import json
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

sys.path.extend([str(Path(__file__).resolve().parent), str(Path(__file__).resolve().parents[1] / "tests" / "nullgpu")])
import null_gpu
from dali_chain import chain_numbers, define_chain

from fra_dist.config import DataConfig
from fra_dist.data.decoding.dali_graph import define_graph
from fra_dist.data.decoding.device_views import DeviceViews
from fra_dist.data.decoding.pipeline import ViewForm
from fra_dist.data.order.views import ViewParams, draw_views, views_of
from fra_dist.kernels import force

SIDE = 16
"""Side of the photos in pixels, and of their views."""


def main() -> int:
    args = _arguments()
    if args.kernel:
        serve_kernel(args)
        return 0
    found = count() | {"batch": args.batch} | measure(args)
    found["ratio"] = found["chain_ms"] / (found["resize_ms"] + found["kernel_ms"])
    found["ratio_after_resize"] = (found["chain_ms"] - found["resize_ms"]) / found["kernel_ms"]
    report(found)
    if args.out:
        args.out.mkdir(parents=True, exist_ok=True)
        with (args.out / "loader_host.jsonl").open("a") as file:
            machine = {"cpu": platform.processor() or platform.machine(), "torch": torch.__version__}
            file.write(json.dumps(found | machine) + "\n")
    return 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--out", type=Path, help="folder; appends to loader_host.jsonl in it")
    parser.add_argument("--kernel", action="store_true", help=argparse.SUPPRESS)
    return parser.parse_args()


def count() -> dict[str, int]:
    """Operators of the graphs for a GPU, two views."""
    found = {}
    ways = {"chain": define_chain(DataConfig(), 256, 0), "resize": define_graph(DataConfig(), 256, 0, finished=False)}
    for name, pipe in ways.items():
        pipe._build_graph()
        found[f"{name}_operators"] = len(pipe._ops)
    return found


def measure(args: argparse.Namespace) -> dict[str, float]:
    """CPU ms of a batch: the graph with the chain, the graph up to the resize, and the kernel's side of the host."""
    config = DataConfig(image_size=SIDE, threads=1, decode="once")
    chain, resize = define_chain(config, args.batch, None), define_graph(config, args.batch, None, finished=False)
    params = drawn(config, args.batch)
    extra = [chain_numbers(p, SIDE) for p in params]
    with tempfile.TemporaryDirectory() as scratch:
        library = null_gpu.build(Path(scratch) / "library")
        command = [sys.executable, __file__, "--kernel", "--batch", str(args.batch)]
        kernel = subprocess.Popen(
            command,
            env=null_gpu.environment(library, Path(scratch)),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        times: dict[str, list[float]] = {"chain_ms": [], "resize_ms": [], "kernel_ms": []}
        for number in range(args.rounds + 2):
            row = {
                "chain_ms": _timed(chain, params, extra),
                "resize_ms": _timed(resize, params, [{} for _ in params]),
                "kernel_ms": _ask(kernel),
            }
            if number >= 2:
                for name, value in row.items():
                    times[name].append(value)
        kernel.communicate()
    return {name: statistics.median(values) for name, values in times.items()}


def drawn(config: DataConfig, batch: int) -> list[ViewParams]:
    """The views of a batch of photos of SIDE pixels."""
    ids, sides = np.arange(batch), np.full(batch, SIDE)
    return [draw_views(view, 0, 0, ids, n, sides, sides) for n, (view, _) in enumerate(views_of(config))]


def _timed(pipe: Any, params: list[ViewParams], extra: list[dict[str, Any]]) -> float:
    before = time.process_time()
    pipe.feed_input("encoded", [np.frombuffer(_PHOTO, np.uint8)] * len(params[0]))
    for view, (p, numbers) in enumerate(zip(params, extra, strict=True)):
        box = {"start": p.box[:, [1, 0]], "shape": p.box[:, [3, 2]] - p.box[:, [1, 0]]}
        for name, values in (box | numbers).items():
            pipe.feed_input(f"view{view}.{name}", np.ascontiguousarray(values))
    pipe.schedule_run()
    pipe.outputs()
    return (time.process_time() - before) * 1e3


def serve_kernel(args: argparse.Namespace) -> None:
    """On the null GPU: for each line that comes in, finish a batch and print its CPU ms."""
    torch.set_num_threads(1)
    config, device = DataConfig(image_size=SIDE), torch.device("cuda", 0)
    params = drawn(config, args.batch)
    finishing = DeviceViews(config, device, ViewForm(torch.bfloat16, channels_last=True))
    crops = [torch.zeros(args.batch, SIDE, SIDE, 3, dtype=torch.uint8, device=device) for _ in params]
    with force("triton"):
        for _ in sys.stdin:
            before = time.process_time()
            finishing.finish(crops, params)
            print((time.process_time() - before) * 1e3, flush=True)


def _ask(process: "subprocess.Popen[str]") -> float:
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write("\n")
    process.stdin.flush()
    return float(process.stdout.readline())


def report(found: dict[str, Any]) -> None:
    print(f"operators in the graph of a GPU: chain {found['chain_operators']}, now {found['resize_operators']}")
    print(f"CPU ms of a batch of {found['batch']} photos of {SIDE} px, two views, DALI's operators on the CPU:")
    print(f"  up to the resize, for both            {found['resize_ms']:8.1f}")
    print(f"  with the chain of operators           {found['chain_ms']:8.1f}")
    print(f"  kernel, on the null GPU               {found['kernel_ms']:8.1f}")
    print(f"chain / now: {found['ratio']:.1f}; after the resize alone: {found['ratio_after_resize']:.0f}")


def _photo() -> bytes:
    out = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)).save(out, "JPEG")
    return out.getvalue()


_PHOTO = _photo()

if __name__ == "__main__":
    sys.exit(main())
