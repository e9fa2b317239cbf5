"""Files of `torch.save` that hold more than tensors, read without running anything that they name.

Checkpoints of other tools hold the arguments of their command line (`argparse.Namespace`), settings, NumPy numbers. The
restricted unpickler of torch (`weights_only=True`) refuses them by name; here each name that it refuses is given an
inert class, which takes whatever it is called with and does nothing. What the file names is never imported or called.
Names of modules that torch blocks (`os`, `sys`, ...) and functions of `builtins` stay refused.
"""

import pickle
import re
from pathlib import Path
from typing import Any

import torch

_REFUSED = re.compile(r"(?:Unsupported (?:global|class)[^:]*: )?GLOBAL ([\w.]+) was not an allowed global")
_PLAIN = frozenset({"list", "dict", "set", "tuple", "frozenset", "int", "float", "bool", "str", "bytes", "complex"})
_MOST = 200
"""Names that a file may need a placeholder for."""


class Inert(dict[Any, Any]):
    """What stands for an object that is no tensor: it keeps entries, as a dictionary does, and does nothing else."""

    def __init__(self, *_: Any, **__: Any) -> None:
        super().__init__()

    def __setstate__(self, state: Any) -> None:
        """Take the state of the object that this stands for, and keep none of it."""

    def append(self, _: Any) -> None:
        """Take an element, as a list does, and drop it."""

    def extend(self, _: Any) -> None:
        """Take elements, as a list does, and drop them."""

    def add(self, _: Any) -> None:
        """Take an element, as a set does, and drop it."""

    def __hash__(self) -> int:  # type: ignore[override]  # may be a key of a dictionary
        return id(self)


def load(path: Path) -> Any:
    """What `torch.save` wrote, on the CPU, with an `Inert` for every object that is neither a tensor nor plain data.

    Raises pickle.UnpicklingError when the file names what cannot be replaced, and as `torch.load` does.
    """
    names: set[str] = set()
    while True:
        places = [(type("Inert", (Inert,), {}), name) for name in sorted(names)]
        try:
            with torch.serialization.safe_globals(places):
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
