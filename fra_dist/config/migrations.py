"""Configurations that earlier versions wrote: named steps that turn each into one of today.

Every configuration is led through all steps before it is validated: files and overrides of a user, `config.yaml` of a
run folder, and the settings inside a checkpoint. A step knows an old configuration by its keys, changes nothing in a
newer one, and says each change in one line, so that a key that was renamed or is gone orphans no run and no file.

Version 0.1.0 is the first; there is no step yet. To rename or remove a key, or to give it another meaning, add a step
at the end of `STEPS`:

    STEPS = (
        renamed("0.2.0", "optim.trust", "optim.lars_trust"),
        gone("0.3.0", "log.pictures", "pictures are always drawn"),
    )
"""

import copy
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

Tree = dict[str, Any]
_log = logging.getLogger("fra_dist.config")


@dataclass(frozen=True)
class Migration:
    """One step that brings a configuration of an older version to a newer form."""

    name: str
    """The version that made it, and what it did, for example `0.2.0: optim.trust is optim.lars_trust`."""
    apply: Callable[[Tree], list[str]]
    """Changes a tree of the old form in place and returns a line for each change; none for a newer tree."""


def renamed(version: str, old: str, new: str) -> Migration:
    """A key, or a section with all its keys, that has had another dotted name since `version`."""

    def apply(tree: Tree) -> list[str]:
        parent, key = _parent(tree, old)
        if parent is None or key not in parent:
            return []
        value = parent.pop(key)
        target = tree
        *sections, last = new.split(".")
        for name in sections:
            child = target.setdefault(name, {})
            if not isinstance(child, dict):
                return [f"{old} is now {new}; its value is not used, because {name} is {child!r}"]
            target = child
        if last in target:
            return [f"{old} is now {new}, which is given as well: {old} is not used"]
        target[last] = value
        return [f"{old} is now {new}"]

    return Migration(f"{version}: {old} is {new}", apply)


def gone(version: str, old: str, instead: str) -> Migration:
    """A key that has had no meaning since `version`; `instead` says what holds now, or which key to use."""

    def apply(tree: Tree) -> list[str]:
        parent, key = _parent(tree, old)
        if parent is None or key not in parent:
            return []
        del parent[key]
        return [f"{old} is gone: {instead}"]

    return Migration(f"{version}: {old} is gone", apply)


STEPS: tuple[Migration, ...] = ()
"""In the order of the versions."""


def migrate(tree: Tree, where: str, steps: Sequence[Migration] | None = None) -> Tree:
    """The tree of a configuration in today's form; `tree` itself is left as it is. What changed is logged, once."""
    found = copy.deepcopy(tree)
    for step in STEPS if steps is None else steps:
        for line in step.apply(found):
            _say(where, line, step.name.partition(":")[0])
    return found


@cache  # a run reads its configuration several times
def _say(where: str, line: str, version: str) -> None:
    _log.warning("%s: %s (since version %s)", where, line, version)


def _parent(tree: Tree, key: str) -> tuple[Tree | None, str]:
    """(the section that holds a dotted key, or None where there is none, and the key's last part)."""
    *sections, last = key.split(".")
    for name in sections:
        child = tree.get(name)
        if not isinstance(child, dict):
            return None, last
        tree = child
    return tree, last
