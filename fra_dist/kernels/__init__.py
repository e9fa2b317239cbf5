"""The fused kernels of a training step, each with a plain PyTorch reference beside it; see `docs/kernels.md`.

`describe()` says which path each kernel takes and why; `force("reference")` or `force("triton")` insists on one.
"""

import pkgutil
from importlib import import_module

from fra_dist.kernels.dispatch import Choice, describe, force

__all__ = ["KERNELS", "Choice", "describe", "force"]

KERNELS = tuple(sorted(one.name for one in pkgutil.iter_modules(__path__) if one.ispkg))
"""Every folder here is a kernel."""

for _kernel in KERNELS:
    import_module(f"{__name__}.{_kernel}")  # registers itself, so that `describe` knows it before it is called
