"""Launches the Triton kernels of LARS and the EMA over tables of tensors,
which reach the device without a host synchronisation."""

import functools
from itertools import accumulate
from typing import Any, NamedTuple

import torch
import triton.language as tl
from torch import Tensor

from fra_dist.kernels.lars_ema import triton as kernels
from fra_dist.kernels.launcher import cdiv
from fra_dist.kernels.launcher import launch as _launch

CHUNK = 8192
"""Elements that a program owns: a constant, so the order of the sums is the same on every GPU."""
BLOCK = 1024
STEP = 512
TYPES = {torch.float32: tl.float32, torch.bfloat16: tl.bfloat16, torch.float16: tl.float16}


class Tables(NamedTuple):
    """The tables on the device that do not change from step to step, for n tensors in chunks of CHUNK elements."""

    sizes: Tensor
    """(n,) elements of each tensor."""
    owner: Tensor
    """For each chunk, the number of the tensor that it belongs to."""
    first: Tensor
    """(n + 1,) the number of each tensor's first chunk, and the number of chunks."""
    counts: Tensor
    """(n + 1,) the numbers 0, 1, ... n: where the sums of squares of each tensor are when they are given whole."""
    decays: Tensor
    """(n,) the weight decay of each parameter."""
    adapted: Tensor
    """(n,) whether LARS adapts the length of each parameter's step."""


def squares(parameters: list[Tensor], gradients: list[Tensor]) -> Tensor:
    """Sums of squares of each parameter and of each gradient, (2, n) float64, by the kernels."""
    tables = _tables(_sizes(parameters), (), (), CHUNK, parameters[0].device)
    partial = _partial(_addresses(parameters, gradients, [], []), tables, gradients[0].dtype)
    n = len(parameters)
    result = partial.new_empty((2, n))
    _launch(
        kernels.gather_kernel, n, {"STEP": STEP, "num_warps": 4}, partial, tables.first, result, n, partial.shape[1]
    )
    return result


def step(
    parameters: list[Tensor], gradients: list[Tensor], velocities: list[Tensor], targets: list[Tensor],
    weight_decay: list[float], adapt: list[bool], lr: float, momentum: float, trust: float, target_momentum: float,
    squares: Tensor | None, found_inf: Tensor | None,
) -> None:  # fmt: skip
    """One step of LARS, and of the EMA where there are targets, in place; the arguments are those of `api.lars_ema`."""
    tables = _tables(_sizes(parameters), tuple(weight_decay), tuple(adapt), CHUNK, parameters[0].device)
    addresses = _addresses(parameters, gradients, velocities, targets)
    if squares is None:
        partial, places = _partial(addresses, tables, gradients[0].dtype, needed=any(adapt)), tables.first
    else:
        partial, places = squares.contiguous(), tables.counts
    settings = {"GRADIENT": TYPES[gradients[0].dtype], "GUARD": found_inf is not None, "EMA": bool(targets)}
    _launch(
        kernels.step_kernel, len(tables.owner), settings | _blocks() | {"STEP": STEP},
        addresses, tables.sizes, tables.owner, tables.first, partial, places, partial.shape[1], tables.decays,
        tables.adapted, tables.decays if found_inf is None else found_inf, len(parameters),
        lr, momentum, trust, 1 - target_momentum,
    )  # fmt: skip


def follow(targets: list[Tensor], online: list[Tensor], momentum: float, found_inf: Tensor | None) -> None:
    """The EMA alone: the targets follow the online weights in place, unless `found_inf` is set."""
    tables = _tables(_sizes(targets), (), (), CHUNK, targets[0].device)
    settings = {"GRADIENT": TYPES[online[0].dtype], "GUARD": found_inf is not None}
    guard = tables.decays if found_inf is None else found_inf
    _launch(
        kernels.follow_kernel, len(tables.owner), settings | _blocks(), _addresses(targets, online, [], []),
        tables.sizes, tables.owner, tables.first, guard, len(targets), 1 - momentum,
    )  # fmt: skip


def _partial(addresses: Tensor, tables: Tables, dtype: torch.dtype, needed: bool = True) -> Tensor:
    """(2, chunks) float64: Σ p² and Σ g² of each chunk; not filled if not needed."""
    partial = torch.empty((2, len(tables.owner)), dtype=torch.float64, device=addresses.device)
    if needed:
        arguments = (addresses, tables.sizes, tables.owner, tables.first, partial, len(tables.sizes))
        _launch(kernels.squares_kernel, len(tables.owner), {"GRADIENT": TYPES[dtype]} | _blocks(), *arguments)
    return partial


def _blocks() -> dict[str, Any]:
    return {"CHUNK": CHUNK, "BLOCK": BLOCK, "num_warps": 4}


def _sizes(tensors: list[Tensor]) -> tuple[int, ...]:
    return tuple(tensor.numel() for tensor in tensors)


@functools.lru_cache(maxsize=16)
def _tables(
    sizes: tuple[int, ...], decays: tuple[float, ...], adapt: tuple[bool, ...], chunk: int, device: torch.device
) -> Tables:
    chunks = [cdiv(size, chunk) for size in sizes]
    owner = [i for i, count in enumerate(chunks) for _ in range(count)]
    upload = functools.partial(_upload, device=device)
    return Tables(
        sizes=upload(sizes, torch.int32),
        owner=upload(owner, torch.int32),
        first=upload([0, *accumulate(chunks)], torch.int32),
        counts=upload(range(len(sizes) + 1), torch.int32),
        decays=upload(decays or [0.0], torch.float32),
        adapted=upload(adapt or [False], torch.int32),
    )


def _addresses(
    parameters: list[Tensor], gradients: list[Tensor], velocities: list[Tensor], targets: list[Tensor]
) -> Tensor:
    """(5, n) int64; the addresses of tensors that there are not are 0."""
    n = len(parameters)
    rows = [[*map(Tensor.data_ptr, tensors)] for tensors in (parameters, gradients, velocities, targets)]
    rows = [row + [0] * (n - len(row)) for row in rows]
    aligned = [int((a | b | c | d) % 16 == 0) for a, b, c, d in zip(*rows, strict=True)]
    return _address_table((*map(tuple, rows), tuple(aligned)), parameters[0].device)


@functools.lru_cache(maxsize=16)
def _address_table(rows: tuple[tuple[int, ...], ...], device: torch.device) -> Tensor:
    """Gradients often come back to the same addresses, so most steps upload nothing."""
    return _upload(rows, torch.int64, device)


def _upload(values: Any, dtype: torch.dtype, device: torch.device) -> Tensor:
    """From pinned memory, which the allocator keeps until the copy is done: the host does not wait."""
    table = torch.tensor(values if isinstance(values, tuple) else list(values), dtype=dtype)
    return table if device.type == "cpu" else table.pin_memory().to(device, non_blocking=True)
