"""Host synchronisations, seen on a CPU: operators and calls of Python that read values of a device."""

import sys
from collections import Counter
from typing import Any

from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

READS = ("_local_scalar_dense", "nonzero", "masked_select", "is_nonzero", "equal", "unique_dim", "_unique2", "bincount")
CALLS = ("item", "tolist", "numpy", "cpu", "__bool__", "__float__", "__int__", "__index__", "__array__", "__contains__")
ON_HOST = "kernels/dropout_mask/host.py"
"""Reads keys in main memory as an array; with a device the masks are made by a kernel instead."""


class WaitingOperators(TorchDispatchMode):
    """Collects the names of READS that run inside; counts all operators, and collectives by kind."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []
        self.operators = 0
        self.collectives: Counter[str] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        space, _, name = func._schema.name.partition("::")
        self.operators += 1
        self.collectives[name] += space == "c10d"
        if name in READS:
            self.found.append(name)
        return func(*args, **(kwargs or {}))


class WaitingCalls(TorchFunctionMode):
    """Collects the names of CALLS that are made inside, such as `tolist`, which no operator shows."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = getattr(func, "__name__", "")
        if name in CALLS and not sys._getframe(1).f_code.co_filename.endswith(ON_HOST):
            self.found.append(name)
        return func(*args, **(kwargs or {}))
