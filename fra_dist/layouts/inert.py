"""Files of `torch.save` that hold more than tensors, read without running anything that they name.

Checkpoints of other tools hold the arguments of their command line (`argparse.Namespace`), settings, NumPy numbers. The
restricted unpickler of torch (`weights_only=True`) refuses them by name; here each name that it refuses is given an
inert class, which takes whatever it is called with and does nothing. What the file names is never imported or called.
Names of modules that torch blocks (`os`, `sys`, ...) and functions of `builtins` stay refused.
"""

import pickle
import re
import warnings
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

_REFUSED = re.compile(r"(?:Unsupported (?:global|class)[^:]*: )?GLOBAL ([\w.]+) was not an allowed global")
_PLAIN = frozenset({"list", "dict", "set", "tuple", "frozenset", "int", "float", "bool", "str", "bytes", "complex"})
_MOST = 200
"""Names that a file may need a placeholder for."""


class Inert:
    """What stands for an object that is no tensor: it takes any arguments and any state, and keeps none of it."""

    def __init__(self, *_: Any, **__: Any) -> None:
        pass

    def __setstate__(self, state: Any) -> None:
        """Take the state of the object that this stands for, and drop it."""


class InertDict:
    """What stands for an object with attributes or entries: an ordered dictionary of them.

    The restricted unpickler puts entries into no other class than a dictionary.
    """

    def __new__(cls, *_: Any, **__: Any) -> Any:
        return OrderedDict()


def _stand_in(name: str) -> type:
    """The placeholder for a class of this name. What NumPy and pathlib pickle has a state that is no dictionary."""
    base = Inert if name.startswith(("numpy.", "pathlib.")) else InertDict
    return type(base.__name__, (base,), {})


def load(path: Path) -> Any:
    """What `torch.save` wrote, on the CPU, with a placeholder for every object that is neither a tensor nor plain data.

    Raises pickle.UnpicklingError when the file names what cannot be replaced, and as `torch.load` does.
    """
    names: set[str] = set()
    while True:
        places: list[Callable[..., Any] | tuple[Callable[..., Any], str]] = [
            (_stand_in(name), name) for name in sorted(names)
        ]
        try:
            with torch.serialization.safe_globals(places), warnings.catch_warnings():
                warnings.filterwarnings("ignore", "Detected pickle protocol")  # of bytes that are no pickle
                return torch.load(path, map_location="cpu", weights_only=True)
        except pickle.UnpicklingError as error:
            found = _REFUSED.search(str(error))
            if found is None:
                raise
            more = _names_for(found[1])
            if more <= names or len(names) > _MOST:
                raise
            names |= more


def _names_for(name: str) -> set[str]:
    """The names under which torch asks for a refused class; raises UnpicklingError for a function of `builtins`."""
    bare = name.removeprefix("builtins.").removeprefix("__builtin__.")
    if "." in bare:
        return {name}
    if bare not in _PLAIN:
        raise pickle.UnpicklingError(f"it asks for the function {bare}, which weights do not need")
    return {bare, f"builtins.{bare}", f"__builtin__.{bare}"}
