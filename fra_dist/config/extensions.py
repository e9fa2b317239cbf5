"""Code of the user's own that a setting names: an entry point of an installed package, or `module:name`.

Three ways lead to it, tried in this order:

    register("fra_dist.loss_terms", "together", function)         in one's own script, before the run begins
    [project.entry-points."fra_dist.loss_terms"]                  in the pyproject.toml of an installed package
    together = "mypackage.losses:together"
    mypackage.losses:together                                     the importable place itself, written as the name

Nothing is imported before `find_extension` is asked for it, and it is asked by training and by evaluation for names
that a configuration or a command line holds, never for what a file of weights says.
"""

from collections.abc import Callable
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from fra_dist.errors import ConfigError

Extension = Callable[..., Any]

_registered: dict[tuple[str, str], Extension] = {}


def register(group: str, name: str, extension: Extension) -> None:
    """Make `name` mean `extension` in this process. Raises ConfigError when it means something else already."""
    if _registered.setdefault((group, name), extension) is not extension:
        raise ConfigError(f"{name!r} is registered in {group} already: give yours another name")


def find_extension(group: str, name: str) -> Extension | None:
    """The callable that `name` stands for in an entry point group; None where nothing is called so.

    Raises ConfigError for what cannot be imported or called, and for a name that two installed packages give.
    """
    if (group, name) in _registered:
        return _registered[group, name]
    if ":" in name:
        return _imported(EntryPoint(name, name, group), f"{name!r}")
    found = tuple(entry_points(group=group, name=name))
    if not found:
        return None
    if len({one.value for one in found}) > 1:
        packages = ", ".join(sorted({one.dist.name if one.dist else one.value for one in found}))
        raise ConfigError(f"{name!r} is given by several packages ({packages}): write module:name instead")
    return _imported(found[0], f"{name!r} ({found[0].value})")


def known_extensions(group: str) -> list[str]:
    """Names that are registered or given by installed packages, sorted; nothing is imported."""
    return sorted({name for of, name in _registered if of == group} | entry_points(group=group).names)


def short_name(name: str) -> str:
    """`together` of `mypackage.losses:together`, and of `together`."""
    return name.rpartition(":")[2].rpartition(".")[2]


def _imported(place: EntryPoint, called: str) -> Extension:
    if place.pattern.match(place.value) is None:
        raise ConfigError(f"{called} is not of the form module:name")
    try:
        extension: Any = import_module(place.module)
        for attribute in place.attr.split("."):
            extension = getattr(extension, attribute)
    except Exception as error:  # an extension may fail in any way while it is imported
        raise ConfigError(f"{called} cannot be imported: {_line(error)}") from error
    if not callable(extension):
        raise ConfigError(f"{called} is a {type(extension).__name__}, not a function")
    return extension


def _line(error: Exception) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())[:200]
