"""`fra-dist kernels`: which path each kernel takes on this machine, and on a GPU whether it computes what it should."""

import argparse
import json


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
        print(json.dumps({"kernels": paths, "checks": [vars(one) for one in checks]}, indent=1, default=str))
    else:
        if checks:
            print(f"{'kernel':<20} {'dtype':<10} {'difference':>11}  against plain PyTorch in float64")
        for one in checks:
            print(f"{one.kernel:<20} {one.dtype:<10} {one.difference:>11.2g}  {one.problem or 'as it should be'}")
        for name, choice in kernels.describe().items():
            print(f"{name:<20} {choice}")
    return 1 if any(one.problem is not None for one in checks) else 0
