"""`fra-dist kernels`: which path each kernel takes on this machine, and on a GPU whether it computes what it should."""

import argparse


def configure(parser: argparse.ArgumentParser) -> None:
    """Describe the exit status of `fra-dist kernels` in its parser; the command has no arguments."""
    parser.epilog = "Exit status: 0, or 1 when a kernel failed its check; runs leave that kernel out by themselves."


def run(args: argparse.Namespace) -> int:
    """Print the path of each kernel, and its self-check on a GPU. Exit status 1 when a kernel failed its check."""
    import torch

    from fra_dist import kernels
    from fra_dist.kernels import dispatch

    device = torch.device("cuda", 0) if torch.cuda.is_available() else torch.device("cpu")
    obstacle = dispatch.device_obstacle(device.type, device.index)
    problems = 0
    if obstacle is None:
        from fra_dist.kernels.self_check import check_kernels

        print(f"{'kernel':<20} {'dtype':<10} {'difference':>11}  against plain PyTorch in float64")
        for finding in check_kernels(device):
            problems += finding.problem is not None
            verdict = finding.problem or "as it should be"
            print(f"{finding.kernel:<20} {finding.dtype:<10} {finding.difference:>11.2g}  {verdict}")
    for name, choice in kernels.describe().items():
        print(f"{name:<20} {choice}")
    return 1 if problems else 0
