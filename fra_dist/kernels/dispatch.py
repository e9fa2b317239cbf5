"""Which implementation of a kernel runs, and why.

Every kernel has two paths: `triton` (fused, NVIDIA GPUs) and `reference` (plain PyTorch, runs anywhere and defines the
result). The path is chosen at each call from the tensors. `force`, or the environment variable FRA_DIST_KERNELS,
insists on one of them; insisting on a kernel that cannot run is an error rather than a silent fallback.
"""

import functools
import importlib.util
import logging
import os
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import ParamSpec, TypeVar

import torch

from fra_dist.errors import ConfigError

ENVIRONMENT = "FRA_DIST_KERNELS"
WISHES = ("auto", "reference", "triton")
LEAST_CAPABILITY = (8, 0)
"""Least compute capability of a GPU that runs the kernels: Ampere, the first with bf16 and TF32 tensor cores."""

P = ParamSpec("P")
T = TypeVar("T")

log = logging.getLogger("fra_dist.kernels")


@dataclass(frozen=True)
class Choice:
    """The path of a kernel's last call, or the one that this machine would give it if it was not called yet."""

    path: str
    """The path taken: `triton` or `reference`."""
    reason: str
    """Why this path was taken, in words."""
    called: bool
    """Whether the kernel was called in this process; if not, the path is what this machine would choose."""

    def __str__(self) -> str:
        return f"{self.path} ({self.reason}{'' if self.called else '; not called yet'})"


launches: Counter[str] = Counter()
"""Triton runs so far by operator, counted where the kernel launch happens,
so that a test can tell that a kernel ran."""

# Plain globals: torch.compile guards on them, so a compiled function follows `force` and takes part in `describe`.
_wish = os.environ.get(ENVIRONMENT, "auto")
_choices: dict[str, tuple[str, str]] = {}
_known: list[str] = []
_logged: set[tuple[str, str]] = set()
_distrusted: dict[str, str] = {}


def _constant_for_compile(function: Callable[P, T]) -> Callable[P, T]:
    """What `torch.compiler.assume_constant_result` does, without importing torch._dynamo, which takes seconds."""
    function._dynamo_marked_constant = True  # type: ignore[attr-defined]
    return function


def register(kernel: str) -> str:
    """Make `describe` list this kernel from the start. Returns the name that was given."""
    _known.append(kernel)
    return kernel


@contextmanager
def force(path: str) -> Iterator[None]:
    """Insist on the path "reference" or "triton" inside the block, for this whole process;
    "auto" chooses by the tensors."""
    global _wish  # a plain global, so process-wide: torch.compile guards on it
    _check(path)
    before, _wish = _wish, path
    try:
        yield
    finally:
        _wish = before


@contextmanager
def aside() -> Iterator[None]:
    """Inside the block, calls do not count as those of a run: `describe` and the log leave them out."""
    before = dict(_choices), set(_logged)
    disabled, log.disabled = log.disabled, True
    try:
        yield
    finally:
        log.disabled = disabled
        for now, then in ((_choices, before[0]), (_logged, before[1])):
            now.clear()
            now.update(then)  # type: ignore[arg-type]


def use_triton(kernel: str, obstacle: str | None, on_gpu: bool) -> bool:
    """Choose the path of one call; `obstacle` says why the Triton kernel cannot take it (None: it can).

    Raises ConfigError if Triton is insisted on and cannot run.
    """
    _check(_wish)
    if _wish == "auto":
        obstacle = obstacle or _distrusted.get(kernel)
    if _wish == "triton" and obstacle is not None:
        raise ConfigError(
            f"kernel {kernel}: Triton is insisted on but cannot run ({obstacle}); "
            f"use {ENVIRONMENT}=auto, or tensors that the kernel takes"
        )
    triton = obstacle is None and _wish != "reference"
    _choices[kernel] = ("triton" if triton else "reference", _reason(obstacle))
    _log_once(kernel, *_choices[kernel], fell_back=on_gpu and not triton and _wish == "auto")
    return triton


def may_use_triton(kernel: str, obstacle: str | None) -> bool:
    """Choose as `use_triton` for a small part of a kernel: it is not recorded,
    and insisting on Triton raises no error."""
    if _wish == "auto":
        obstacle = obstacle or _distrusted.get(kernel)
    return obstacle is None and _wish != "reference"


def wish() -> str:
    """The path that FRA_DIST_KERNELS or `force` asks for: one of WISHES."""
    return _wish


def distrust(kernel: str, reason: str) -> None:
    """Take the plain path of this kernel from now on, with a warning that gives the reason.

    Only `force("triton")` still runs the Triton kernel.
    """
    _distrusted[kernel] = reason
    log.warning("kernel %s: the plain path runs from now on (%s)", kernel, reason)


def describe() -> dict[str, Choice]:
    """For every registered kernel, the path it takes on this machine and the reason."""
    return {k: Choice(*_choices[k], called=True) if k in _choices else _expected(k) for k in _known}


@_constant_for_compile
def device_obstacle(device_type: str, index: int | None = None) -> str | None:
    """Why no Triton kernel can run on this device; None if they can. The answer holds for the life of the process."""
    return _device_obstacle(device_type, index)


@functools.lru_cache
def _device_obstacle(device_type: str, index: int | None) -> str | None:
    if importlib.util.find_spec("triton") is None:
        return "Triton is not installed"
    if interpreted():
        return None
    if device_type != "cuda":
        return f"tensors on the {device_type.upper()}"
    if torch.version.hip is not None:
        return "an AMD GPU"
    capability = torch.cuda.get_device_capability(index)
    if capability < LEAST_CAPABILITY:
        return f"GPU of compute capability {capability[0]}.{capability[1]}, below {LEAST_CAPABILITY[0]}.0"
    return None


def interpreted() -> bool:
    """Whether Triton runs in its interpreter, which takes CPU tensors and is for tests only."""
    return os.environ.get("TRITON_INTERPRET") == "1"


def _expected(kernel: str) -> Choice:
    obstacle = device_obstacle("cuda" if torch.cuda.is_available() else "cpu")
    if _wish == "auto":
        obstacle = obstacle or _distrusted.get(kernel)
    triton = obstacle is None and _wish != "reference"
    return Choice("triton" if triton else "reference", _reason(obstacle), called=False)


def _reason(obstacle: str | None) -> str:
    if _wish != "auto":
        return f"{_wish} insisted on"
    return obstacle or "Triton takes these tensors"


@_constant_for_compile
def _log_once(kernel: str, path: str, reason: str, fell_back: bool) -> bool:
    """Say which path a kernel takes when it first takes it; torch.compile runs this while it traces."""
    first = (kernel, path) not in _logged
    if first:
        _logged.add((kernel, path))
        log.log(logging.WARNING if fell_back else logging.INFO, "kernel %s: %s (%s)", kernel, path, reason)
    return first


def _check(wish: str) -> None:
    if wish not in WISHES:
        raise ConfigError(f"{ENVIRONMENT} is {wish!r}; use one of {', '.join(WISHES)}")
