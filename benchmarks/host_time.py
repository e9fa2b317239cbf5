"""The host's time for a training step, on a null GPU: kernels do nothing, so what is left is what the host does.

    python benchmarks/host_time.py --against CHECKOUT --out benchmarks/results      # ours, another commit's, and plain

Each way runs in a process of its own; they take turns, one step at a time, so that other load on the machine meets all
alike. CPU time of the process, medians over rounds; launches are those of one step. A real GPU's driver adds its own
time to each launch, so these are times of Python, PyTorch and Triton alone. Needs gcc and a CUDA build of PyTorch.
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from importlib import metadata
from pathlib import Path
from typing import Any

sys.path.append(str(Path(__file__).resolve().parents[1] / "tests" / "nullgpu"))
import null_gpu

HERE = Path(__file__).resolve().parent

WAYS = {
    "plain": ["plain"],
    "plain, channels-last": ["plain", "channels_last"],
    "ours": [],
    "ours, graphs": ["cuda_graphs"],
}
WARM_UPS = 4


def main() -> int:
    args = _arguments()
    if args.way:
        serve(args)
        return 0
    obstacle = null_gpu.obstacle()
    if obstacle is not None:
        print(f"host_time: {obstacle}", file=sys.stderr)
        return 2
    with tempfile.TemporaryDirectory() as scratch:
        library = null_gpu.build(Path(scratch) / "library")
        rows = list(measure(args, null_gpu.environment(library, Path(scratch))))
    report(rows)
    if args.out:
        args.out.mkdir(parents=True, exist_ok=True)
        with (args.out / "host_time.jsonl").open("a") as file:
            file.writelines(json.dumps(_common(args) | row) + "\n" for row in rows)
    return 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--against", type=Path, metavar="CHECKOUT", help="another checkout, whose step takes turns too")
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--backbone", default="resnet50")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--only", nargs="+", choices=list(WAYS))
    parser.add_argument("--out", type=Path, help="folder; appends to host_time.jsonl in it")
    parser.add_argument("--way", choices=list(WAYS), help=argparse.SUPPRESS)
    return parser.parse_args()


def measure(args: argparse.Namespace, environment: dict[str, str]) -> list[dict[str, Any]]:
    """One row a way."""
    trees = {"": HERE.parent} | ({"before": args.against.resolve()} if args.against else {})
    ways = {(tree, way): [] for way in args.only or WAYS for tree in trees if tree == "" or way.startswith("ours")}
    processes = {key: _start(args, key[1], trees[key[0]], environment) for key in ways}
    counts = {key: _ask(process) for key, process in processes.items()}
    times: dict[tuple[str, str], list[float]] = ways
    for _ in range(args.rounds):
        for key, process in processes.items():
            times[key].append(_ask(process)["ms"])
    for process in processes.values():
        process.communicate()
    return [
        {
            "way": way,
            "tree": tree or "this",
            "host_ms": round(statistics.median(times[tree, way]), 1),
            **counts[tree, way],
        }
        for tree, way in times
    ]


def _start(args: argparse.Namespace, way: str, tree: Path, environment: dict[str, str]) -> "subprocess.Popen[str]":
    command = [sys.executable, str(HERE / "host_time.py"), "--way", way]
    command += ["--batch", str(args.batch), "--backbone", args.backbone]
    environment = environment | {"PYTHONPATH": os.pathsep.join([str(tree), str(tree / "benchmarks")])}
    return subprocess.Popen(command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def _ask(process: "subprocess.Popen[str]") -> dict[str, Any]:
    """One line of the other side; it starts its next step when it reads ours."""
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write("\n")
    process.stdin.flush()
    line = process.stdout.readline()
    if not line:
        raise SystemExit(f"host_time: a way failed with status {process.wait()}, see above")
    return json.loads(line)


def serve(args: argparse.Namespace) -> None:
    """In a way's own process: launches of a step, then the time of one for each line read."""
    import torch

    sys.path.remove(str(HERE))  # the benchmarks of the checkout that is measured
    from whole_step import OurStep, Setting, plainly

    torch.set_num_threads(1)
    setting = Setting(args.backbone, 224, args.batch, torch.device("cuda", 0), "bfloat16")
    first, *rest = [*WAYS[args.way], ""]
    switches = dict.fromkeys([word for word in (first, *rest) if word not in ("plain", "")], True)
    run = plainly(setting, **switches) if first == "plain" else OurStep(setting, **switches)
    sys.stdin.readline()
    for _ in range(WARM_UPS):
        run()
    with null_gpu.Counters().during() as asked:
        run()
    waits = sum(asked[name] for name in null_gpu.SYNCHRONISATIONS)
    found = {"launches": null_gpu.launches(asked), "outside_convolutions": null_gpu.outside_convolutions(asked)}
    print(json.dumps(found | {"synchronisations": waits}), flush=True)
    for _ in sys.stdin:
        start = time.process_time()
        run()
        print(json.dumps({"ms": (time.process_time() - start) * 1e3}), flush=True)


def report(rows: list[dict[str, Any]]) -> None:
    base = {(row["way"], row["tree"]): row["host_ms"] for row in rows}
    for row in rows:
        plain, before = base.get(("plain, channels-last", "this")), base.get((row["way"], "before"))
        ratios = {"plain, channels-last": plain, "before": before}
        said = "".join(f"  {row['host_ms'] / of:.2f} x {name}" for name, of in ratios.items() if of)
        print(
            f"{row['way']:22} {row['tree']:7} {row['host_ms']:7.1f} ms  {row['launches']:5} launches, "
            f"{row['outside_convolutions']:5} outside convolutions, {row['synchronisations']:3} synchronisations{said}"
        )


def _common(args: argparse.Namespace) -> dict[str, Any]:
    versions = {name: metadata.version(name) for name in ("torch", "triton")}
    machine = f"{platform.machine()} CPU, 1 thread, null GPU"
    return {
        "device": machine,
        **versions,
        "date": time.strftime("%Y-%m-%d"),
        "batch": args.batch,
        "rounds": args.rounds,
    }


if __name__ == "__main__":
    sys.exit(main())
