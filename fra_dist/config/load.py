"""YAML file + `section.key=value` overrides -> a validated, frozen `Config`."""

import difflib
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from fra_dist.config.schema import Config
from fra_dist.config.section import Section
from fra_dist.errors import ConfigError
from fra_dist.files import failure, raw_bytes


class _Loader(yaml.SafeLoader):
    """YAML 1.1 reads 1e-6 as text; this loader reads it as the number that its writer meant."""


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?(\d[\d_]*\.?\d*|\.\d+)[eE][-+]?\d+$"),
    list("-+0123456789."),
)


def load_config(path: str | Path | None, overrides: Sequence[str] = ()) -> Config:
    """Read a YAML file (or the defaults, when None) and apply `a.b=value` overrides.

    Raises ConfigError, in one line that names the file or the override, the key, and the nearest known key.
    """
    tree = _read(Path(path)) if path is not None else {}
    for text in overrides:
        _override(tree, text)
    return parse_config(tree, where=str(path) if path is not None else "the overrides")


def parse_config(tree: dict[str, Any], where: str = "the configuration") -> Config:
    """Validate a nested dictionary. Raises ConfigError."""
    try:
        return Config.model_validate_json(json.dumps(tree))
    except ValidationError as error:
        raise ConfigError(f"{where}: " + "; ".join(_explain(dict(e)) for e in error.errors())) from None
    except TypeError as error:
        raise ConfigError(f"{where}: a value has no JSON form ({error})") from None


def dump_config(config: Config) -> str:
    """The whole resolved configuration as YAML that `load_config` reads back to an equal Config."""
    return yaml.safe_dump(config.model_dump(mode="json", by_alias=True), sort_keys=False)


def _read(path: Path) -> dict[str, Any]:
    try:
        piped = path.parts[:2] in (("/", "dev"), ("/", "proc"))  # `pretrain <(...)`, `pretrain /dev/stdin`
        data = path.read_bytes() if piped else raw_bytes(path)
        tree = yaml.load(data.decode("utf-8"), Loader=_Loader)  # a SafeLoader: builds plain values only
    except OSError as error:
        raise failure(error, f"cannot read configuration {path}", ConfigError) from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is not valid YAML: {' '.join(str(error).split())}") from None
    except RecursionError:
        raise ConfigError(f"{path} is not a configuration: it is nested too deeply") from None
    if tree is None:
        return {}
    if not isinstance(tree, dict):
        raise ConfigError(f"{path} must hold sections and keys, not a {type(tree).__name__}")
    return tree


def _override(tree: dict[str, Any], text: str) -> None:
    key, sign, value = text.partition("=")
    if not sign or not key:
        raise ConfigError(f"override {text!r} is not of the form section.key=value")
    *parents, last = key.split(".")
    for name in parents:
        child = tree.setdefault(name, {})
        if child is None:
            child = tree[name] = {}
        if not isinstance(child, dict):
            raise ConfigError(f"override {text!r}: {name} is a value, not a section")
        tree = child
    try:
        tree[last] = yaml.load(value, Loader=_Loader)
    except yaml.YAMLError:
        tree[last] = value


def _explain(error: dict[str, Any]) -> str:
    path = [str(part) for part in error["loc"]]
    key = ".".join(path) or "the whole"
    if error["type"] == "extra_forbidden":
        near = _nearest(path)
        return f"unknown key {key}" + (f" (did you mean {near}?)" if near else "")
    message = error["msg"].removeprefix("Value error, ")
    message = message[0].lower() + message[1:]
    if error["type"] == "value_error":
        return message
    return f"{key}: {message}, got {error['input']!r}"


def _nearest(path: list[str]) -> str | None:
    """The known dotted key that is most like an unknown one: in its own section first, then anywhere."""
    everything = _keys(Config)
    parent = path[:-1]
    siblings = [k for k in everything if k.split(".")[:-1] == parent]
    wanted = ".".join(path)
    by_leaf = {k.split(".")[-1]: k for k in reversed(everything)}
    found = difflib.get_close_matches(wanted, siblings, 1, 0.6)
    if not found and path[-1] in by_leaf:
        return by_leaf[path[-1]]
    found = found or difflib.get_close_matches(wanted, everything, 1, 0.5)
    if found:
        return found[0]
    leaf = difflib.get_close_matches(path[-1], list(by_leaf), 1, 0.6)
    return by_leaf[leaf[0]] if leaf else None


def _keys(section: type[Section], prefix: str = "") -> list[str]:
    keys = []
    for name, field in section.model_fields.items():
        key = prefix + (field.alias or name)
        keys.append(key)
        for kind in (field.annotation, *getattr(field.annotation, "__args__", ())):
            if isinstance(kind, type) and issubclass(kind, Section):
                keys += _keys(kind, key + ".")
    return keys
