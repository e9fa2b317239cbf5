"""Launches a Triton kernel with little of the host's time: what Triton compiled for the same arguments is kept.

Triton looks a kernel up at each launch, by the types of all arguments and by what it may assume of them: pointers that
are multiples of 16, numbers that are 1 or multiples of 16. That costs the host about as much as three of PyTorch's own
launches. Here the key is the numbers themselves, so whatever Triton may assume holds.
"""

from typing import Any, NamedTuple

import torch
from torch import Tensor
from triton import knobs
from triton.runtime.jit import JITFunction

MOST_KEPT = 10_000
"""Variants of all kernels that are kept; a run has some hundreds, one for each layer."""

_kept: dict[tuple[Any, ...], tuple[Any, tuple[Any, ...]]] = {}
"""By `_key`: what Triton compiled, and the compile-time arguments, which its launcher wants once more."""


class Launch(NamedTuple):
    """A launch of a kernel that takes its tensors first."""

    kernel: Any
    grid: tuple[int, int]
    settings: dict[str, Any]
    """Compile-time arguments and options such as num_warps."""
    tensors: tuple[Tensor, ...]
    numbers: tuple[int | float, ...]

    def __call__(self) -> None:
        """Launch it, see `launch`."""
        launch(self.kernel, self.grid, self.settings, *self.tensors, *self.numbers)

    def again(self) -> "Again | None":
        """What launches the same for other tensors, of the same dtypes and at multiples of 16 bytes.

        None before the first launch, where a profiler or the interpreter wants every one, and where one of these
        tensors begins elsewhere.
        """
        if not isinstance(self.kernel, JITFunction) or any(tensor.data_ptr() % 16 for tensor in self.tensors):
            return None
        device = torch._C._cuda_getDevice()
        kept = _kept.get(_key(self.kernel, device, self.settings, (*self.tensors, *self.numbers)))
        if kept is None:
            return None
        compiled, constants = kept
        code = compiled.function, compiled.packed_metadata, None, None, None
        return Again(compiled.run, (*self.grid, 1), code, (*self.numbers, *constants))


class Again(NamedTuple):
    """A launch for which nothing is looked up."""

    run: Any
    grid: tuple[int, int, int]
    code: tuple[Any, ...]
    rest: tuple[Any, ...]

    def __call__(self, stream: int, *pointers: int) -> None:
        """Launch it on that stream of the current device, with these addresses as its tensors."""
        self.run(*self.grid, stream, *self.code, *pointers, *self.rest)


def launch(kernel: Any, grid: int | tuple[int, ...], settings: dict[str, Any], *arguments: Any) -> None:
    """Launch a Triton kernel on the current device and stream.

    grid: programs along up to three axes; settings: compile-time arguments and options such as num_warps; arguments:
    all others, tensors and numbers, in order. An empty grid launches nothing. Raises what Triton raises.
    """
    x, y, z = (grid, 1, 1) if isinstance(grid, int) else (*grid, 1, 1)[:3]
    if not x * y * z:
        return
    if watched() or not isinstance(kernel, JITFunction) or kernel.pre_run_hooks:
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


def watched() -> bool:
    """Whether somebody, such as a profiler, wants to hear of every launch."""
    enter, leave = knobs.runtime.launch_enter_hook, knobs.runtime.launch_exit_hook
    return bool(getattr(enter, "calls", enter) or getattr(leave, "calls", leave))


def _key(kernel: Any, device: int, settings: dict[str, Any], arguments: tuple[Any, ...]) -> tuple[Any, ...]:
    return kernel, device, *settings.items(), *map(_kind, arguments)


def _kind(argument: Any) -> Any:
    """What tells variants of a kernel apart in an argument."""
    if isinstance(argument, Tensor):
        return argument.dtype, argument.data_ptr() % 16
    return float if isinstance(argument, float) else argument  # of which Triton assumes nothing
