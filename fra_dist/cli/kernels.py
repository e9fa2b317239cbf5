"""`fra-dist kernels`: which path each kernel takes on this machine, and on a GPU whether it computes what it should."""

import argparse
import json
from typing import Any


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `fra-dist kernels` to its parser."""
    parser.add_argument("--json", action="store_true", help="as JSON: the path of each kernel, and the checks")
    parser.epilog = "Exit status: 0, or 1 when a kernel failed its check; runs leave that kernel out by themselves."


def run(args: argparse.Namespace) -> int:
    """Print the path of each kernel, and its self-check on a GPU. Exit status 1 when a kernel failed its check."""
    import torch

    from fra_dist import kernels
    from fra_dist.kernels import dispatch

    device = torch.device("cuda", 0) if torch.cuda.is_available() else torch.device("cpu")
    checks = []
    if dispatch.device_obstacle(device.type, device.index) is None:
        from fra_dist.kernels.self_check import check_kernels

        checks = list(check_kernels(device))
    if args.json:
        paths = {name: {"path": one.path, "reason": one.reason} for name, one in kernels.describe().items()}
        facts = {
            "kernels": paths,
            "checks": [vars(one) for one in checks],
            "convolutions": convolutions(),
            "bf16": bf16(),
        }
        print(json.dumps(facts, indent=1, default=str))
    else:
        if checks:
            print(f"{'kernel':<20} {'dtype':<10} {'difference':>11}  against plain PyTorch in float64")
        for one in checks:
            print(f"{one.kernel:<20} {one.dtype:<10} {one.difference:>11.2g}  {one.problem or 'as it should be'}")
        for name, choice in kernels.describe().items():
            print(f"{name:<20} {choice}")
        print(f"{'convolutions':<20} {_words(convolutions())}")
        print(f"{'bf16':<20} {_bf16_words(bf16())}")
    return 1 if any(one.problem is not None for one in checks) else 0


def convolutions() -> dict[str, Any]:
    """Return what runs on this CPU measured so far: {"machine", "cache", "layers": {name: passes that are products}}.

    Raises DiskError or AccessError when the cache cannot be read.
    """
    from fra_dist.train.convolution_choice import KIND, read_cache
    from fra_dist.train.cpu_measurements import cache_path, machine

    path = cache_path(KIND)
    known = read_cache(path)
    layers = {name: [part for part, product in ways._asdict().items() if product] for name, ways in known.items()}
    return {"machine": machine(), "cache": str(path), "layers": layers}


def bf16() -> dict[str, Any]:
    """Return {"instructions": whether this CPU has them, "over_fp32": time as a share of that in fp32, None unknown}.

    Raises DiskError or AccessError when the cache cannot be read.
    """
    from fra_dist.train.precision import cpu_computes_bf16, known_share

    return {"instructions": cpu_computes_bf16(), "over_fp32": known_share()}


def _bf16_words(found: dict[str, Any]) -> str:
    if not found["instructions"]:
        return "this CPU has no instructions for it"
    share = found["over_fp32"]
    return "not measured yet: a run does it at its start" if share is None else f"{share:.2f} times as long as fp32"


def _words(found: dict[str, Any]) -> str:
    layers = found["layers"]
    if not layers:
        return f"nothing measured yet on {found['machine']}: a run does it at its start on a CPU"
    products = sum(bool(passes) for passes in layers.values())
    return f"{len(layers)} layers measured on {found['machine']}: matrix products in {products}; {found['cache']}"
