"""Batch norm on one rank, on the null GPU: a pass that looks its launches up, and one that knows them.

Prints, as JSON, for each case what both hand to the GPU, kernel by kernel, and how many launches of the second were
known. Addresses are alike: both begin with the same free memory. Run by `test_kernels_on_null_gpu.py`.
"""

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

sys.path.insert(0, str(Path(__file__).parents[2]))
from fra_dist.distributed import SINGLE
from fra_dist.kernels import launcher
from fra_dist.kernels.batch_norm import Running, api, batch_norm, twin

CASES: dict[str, dict[str, Any]] = {
    "plain": {},
    "relu": {"relu": True},
    "residual": {"relu": True, "residual": True},
    "residual, used twice": {"relu": True, "residual": True, "twice": True},
    "residual, running": {"relu": True, "residual": True, "running": True, "groups": 1},
    "no gradient": {"running": True, "gradient": False},
    "odd channels": {"channels": 65, "groups": 1},
    "shifted input": {"shifted": True},
}
"""What differs from 64 channels in two groups."""


def main() -> None:
    print(json.dumps({name: compare(**case) for name, case in CASES.items()}))


def compare(
    *, channels: int = 64, groups: int = 2, relu: bool = False, residual: bool = False, running: bool = False,
    gradient: bool = True, shifted: bool = False, twice: bool = False,
) -> dict[str, Any]:  # fmt: skip
    api._layers.clear()
    maps = [_map(channels, shifted=shifted and number == 0) for number in range(4)]
    values = [torch.ones(channels, device="cuda") for _ in range(4)]
    kept = Running(values[2], values[3], torch.zeros((), dtype=torch.int64, device="cuda"), 0.1) if running else None
    options: dict[str, Any] = {"cross": SINGLE, "groups": groups, "relu": relu, "running": kept}

    def once() -> None:
        trained = [tensor.detach().requires_grad_(gradient) for tensor in (maps[0], *values[:2], maps[1])]
        with torch.set_grad_enabled(gradient):
            y = batch_norm(*trained[:3], trained[3] if residual else None, **options)[0]
        if gradient:
            torch.autograd.backward([y, twin(y)][: 1 + twice], [maps[2], maps[3]][: 1 + twice])

    found: dict[str, Any] = {}
    for _ in range(3):
        once()
    (layer,) = api._layers.values()
    layer.first = layer.transform = None
    layer.backwards.clear()
    for name in ("looked up", "known"):
        with recorded() as launches:
            once()
        found[name] = [[*function, *handed] for _, function, handed in launches]
        found["again"] = sum(known for known, *_ in launches)
    return found


def _map(channels: int, *, shifted: bool) -> Tensor:
    """(4, C, 6, 6), channels-last; shifted: at an address that is no multiple of 16."""
    size = 4 * 6 * 6 * channels
    start = int(shifted)
    rows = torch.zeros(size + start, device="cuda", dtype=torch.bfloat16)[start:]
    return rows.view(4, 6, 6, channels).permute(0, 3, 1, 2)


@contextmanager
def recorded() -> Iterator[list[tuple[bool, list[Any], list[Any]]]]:
    """Of each launch: whether it was known, its function and grid, and what it was handed."""
    launches: list[tuple[bool, list[Any], list[Any]]] = []
    look_up, again = launcher.launch, launcher.Again.__call__

    def launch(kernel: Any, grid: Any, settings: dict[str, Any], *arguments: Any) -> None:
        look_up(kernel, grid, settings, *arguments)
        compiled, constants = launcher._kept[launcher._key(kernel, 0, settings, arguments)]
        handed = [x.data_ptr() if isinstance(x, Tensor) else x for x in (*arguments, *constants)]
        launches.append((False, [compiled.function, *grid], handed))

    def repeat(self: launcher.Again, stream: int, *pointers: int) -> None:
        again(self, stream, *pointers)
        launches.append((True, [self.code[0], *self.grid[:2]], [*pointers, *self.rest]))

    launcher.launch, launcher.Again.__call__ = launch, repeat  # type: ignore[method-assign]
    try:
        yield launches
    finally:
        launcher.launch, launcher.Again.__call__ = look_up, again  # type: ignore[method-assign]


if __name__ == "__main__":
    main()
