"""`~` and `$VARIABLES` in the paths of a configuration, which a shell does not expand in `data.shards=~/faces`."""

import os
import re
from pathlib import Path
from typing import Any

from fra_dist.config.logins import put_aside
from fra_dist.config.section import Section, section_of
from fra_dist.errors import ConfigError
from fra_dist.files import exists
from fra_dist.foreign_text import without_logins

_VARIABLE = re.compile(r"\$(\w+|\{\w+\})")
_LATER_HOME = re.compile(r"(?<=,)~(?=/)")


def expand_places(tree: Any, section: type[Section], prefix: str = "") -> Any:
    """A copy of a configuration's tree with its paths expanded, and the logins in them put aside.

    Raises ConfigError when a path names a variable that is not set or the home of an unknown user: a folder called
    `$SCRATCH` is not what anyone means.
    """
    if not isinstance(tree, dict):
        return tree
    found = dict(tree)
    for name, field in section.model_fields.items():
        key = field.alias or name
        if key not in tree:
            continue
        inner, many = section_of(field.annotation)
        value, here = tree[key], prefix + key
        if here == "data.shards":
            value = _as_one(value)
        if field.json_schema_extra and isinstance(value, str):
            found[key] = put_aside(expand(value, here))
        elif many and isinstance(value, list):
            found[key] = [expand_places(one, inner, f"{here}[{i}].") for i, one in enumerate(value)] if inner else value
        elif inner is not None:
            found[key] = expand_places(value, inner, f"{here}.")
    return found


def expand(path: str, where: str) -> str:
    """A path with `~` and variables expanded; `where` names it in the ConfigError."""

    def value_of(match: re.Match[str]) -> str:
        value = os.environ.get(match[1].strip("{}"))
        if value is None:
            raise ConfigError(f"{where}={without_logins(path)}: {match[0]} is not set in this environment")
        return value

    whole = os.path.expanduser(_VARIABLE.sub(value_of, path))
    whole = _LATER_HOME.sub(os.path.expanduser("~"), whole)  # the second of several sets of shards
    if whole.startswith("~"):
        raise ConfigError(
            f"{where}={without_logins(path)}: no user of that name has a home here; write ./~... for a folder called so"
        )
    return whole


def _as_one(value: Any) -> Any:
    """Several sets of shards as one text, with commas: a list in a file, or `[one, two]` on a command line."""
    if isinstance(value, str) and value.startswith("[") and value.endswith("]") and not exists(Path(value)):
        value = [part.strip().strip("'\"") for part in value[1:-1].split(",")]
    if isinstance(value, list) and value and all(isinstance(part, str) for part in value):
        return ",".join(value)
    return value
