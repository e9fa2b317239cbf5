"""Launches a Triton kernel with little of the host's time: what Triton compiled for the same arguments is kept.

Triton looks a kernel up at each launch, by the types of all arguments and by what it may assume of them: pointers that
are multiples of 16, numbers that are 1 or multiples of 16. That costs the host about as much as three of PyTorch's own
launches. Here the key is the numbers themselves, so whatever Triton may assume holds.
"""

from typing import Any

import torch
from torch import Tensor
from triton import knobs
from triton.runtime.jit import JITFunction

MOST_KEPT = 10_000
"""Variants of all kernels that are kept; a run has some hundreds, one for each layer."""

_kept: dict[tuple[Any, ...], tuple[Any, tuple[Any, ...]]] = {}
"""By `_key`: what Triton compiled, and the compile-time arguments, which its launcher wants once more."""


def launch(kernel: Any, grid: int | tuple[int, ...], settings: dict[str, Any], *arguments: Any) -> None:
    """Launch a Triton kernel on the current device and stream.

    grid: programs along up to three axes; settings: compile-time arguments and options such as num_warps; arguments:
    all others, tensors and numbers, in order. An empty grid launches nothing. Raises what Triton raises.
    """
    x, y, z = (grid, 1, 1) if isinstance(grid, int) else (*grid, 1, 1)[:3]
    if not x * y * z:
        return
    if _watched() or not isinstance(kernel, JITFunction) or kernel.pre_run_hooks:  # a profiler, or the interpreter
        kernel[x, y, z](*arguments, **settings)
        return
    device = torch._C._cuda_getDevice()
    key = _key(kernel, device, settings, arguments)
    found = _kept.get(key)
    if found is None:
        compiled = kernel[x, y, z](*arguments, **settings)
        if len(_kept) >= MOST_KEPT:
            _kept.clear()
        _kept[key] = compiled, tuple(settings[name] for name in kernel.arg_names[len(arguments) :])
        return
    compiled, constants = found
    stream = torch._C._cuda_getCurrentRawStream(device)
    code = compiled.function, compiled.packed_metadata
    compiled.run(x, y, z, stream, *code, None, None, None, *arguments, *constants)


def cdiv(number: int, divisor: int) -> int:
    """Return number/divisor, rounded up; Triton's own takes a tenth of a launch."""
    return -(-number // divisor)


def next_power_of_2(number: int) -> int:
    """Return the least power of 2 that is `number`, of at least 1, or more."""
    return 1 << (number - 1).bit_length()


def _watched() -> bool:
    hooks = knobs.runtime.launch_enter_hook, knobs.runtime.launch_exit_hook
    return any(getattr(hook, "calls", hook) for hook in hooks)


def _key(kernel: Any, device: int, settings: dict[str, Any], arguments: tuple[Any, ...]) -> tuple[Any, ...]:
    return kernel, device, *settings.items(), *map(_kind, arguments)


def _kind(argument: Any) -> Any:
    """What tells variants of a kernel apart in an argument."""
    if isinstance(argument, Tensor):
        return argument.dtype, argument.data_ptr() % 16
    return float if isinstance(argument, float) else argument  # of which Triton assumes nothing
